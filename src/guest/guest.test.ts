import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { create } from "tar";
import {
  bytesOf,
  eventually,
  Manager,
  scratchFolder,
  scriptJob,
  startGuest,
  textOf,
  type GuestProcess,
} from "../../test/guests.ts";
import type { Submission } from "../fleet/api.ts";
import { interruptedJobs } from "../store/reruns.ts";
import { listArtifacts, type LogFrame } from "../store/logs.ts";
import { findRunner, type StoredJob } from "../store/questions.ts";
import { endRunner } from "../store/runners.ts";
import { guestProgram } from "./program.ts";

let folder = "";
let manager: Manager;

before(async () => {
  folder = scratchFolder();
  const labels = Array.from({ length: 100 }, (_, index) => `class-${index}`);
  manager = await Manager.open(folder, { pool: { labels } });
});

after(async () => {
  for (const guest of guests) guest.child.kill("SIGKILL");
  await manager.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Run {
  readonly job: StoredJob;
  readonly guest: GuestProcess;
  readonly runner: string;
  readonly frames: readonly LogFrame[];
  text(stream: LogFrame["stream"]): string;
}

/** Submits a job with a class of its own and runs it to its end in a guest. */
async function run(script: string, changes: Partial<Submission> = {}): Promise<Run> {
  const started = await start(script, changes);
  const job = await manager.ended(started.job.id);
  assert.notEqual(job.outcome, "refused", job.reason);
  assert.equal(await started.guest.over, 0, started.guest.console());
  const frames = await manager.log(job.id);
  return { ...started, job, frames, text: (stream) => textOf(frames, stream) };
}

/** What a test that fails leaves behind. */
const guests: GuestProcess[] = [];

function launch(...args: Parameters<typeof startGuest>): GuestProcess {
  const guest = startGuest(...args);
  guests.push(guest);
  return guest;
}

let classes = 0;

const noProc = !existsSync("/proc/1/stat") && "needs /proc";

/** Labels of a class that no other test uses. */
function newClass(): readonly string[] {
  return [`class-${classes++}`];
}

async function start(
  script: string,
  changes: Partial<Submission> = {},
  environment: Record<string, string> = {},
): Promise<{ job: StoredJob; guest: GuestProcess; runner: string }> {
  const labels = newClass();
  const job = await manager.native.submit(scriptJob(script, { labels, ...changes }));
  const [runner, program] = await manager.claimRunner(labels);
  return { job, runner, guest: launch(program, folder, environment) };
}

/**
 * Runs a script that races with a limit of the guest's, as many times as it takes it to leave the
 * file `mark` before the end: on a host that stands still for a while it may not come so far. Each
 * time is given more `timeoutSeconds`.
 */
async function runUntilMarked(
  script: (mark: string) => string,
  changes: Partial<Submission> = {},
): Promise<Run & { readonly timeoutSeconds: number }> {
  for (let tries = 1; ; tries++) {
    const mark = join(mkdtempSync(join(folder, "marks-")), "mark");
    const timeoutSeconds = tries ** 2;
    const over = await run(script(mark), { timeoutSeconds, ...changes });
    if (existsSync(mark)) return { ...over, timeoutSeconds };
    assert.ok(tries < 5, "it never came so far");
  }
}

/** Waits for something in a job's output. */
async function heard(
  job: string,
  text: string,
  stream: LogFrame["stream"] = "stdout",
): Promise<void> {
  await eventually(async () => ((await manager.text(job, stream)).includes(text) ? true : null));
}

/** A process that was killed is gone once it had its turn; those asked about would last for minutes. */
async function isGone(pid: number): Promise<void> {
  assert.ok(pid > 0);
  await eventually(() => (isAlive(pid) ? null : true));
}

/** Whether a process is there and not just a corpse. */
function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

describe("a command", () => {
  test("has its streams apart, in order, with times that do not run backwards", async () => {
    const begun = Date.now();
    // What becomes readable in one moment cannot be told apart: each line waits for the one before.
    const go = join(mkdtempSync(join(folder, "steps-")), "go");
    const { job: submitted, guest } = await start(
      `next() { until [ -e ${go}-$1 ]; do sleep 0.02; done; }
       for i in 1 2 3; do echo out$i; next out$i; echo err$i >&2; next err$i; done`,
    );
    for (const line of ["out1", "err1", "out2", "err2", "out3", "err3"]) {
      await heard(submitted.id, line, line.startsWith("out") ? "stdout" : "stderr");
      writeFileSync(`${go}-${line}`, "");
    }
    const job = await manager.ended(submitted.id);
    assert.equal(await guest.over, 0, guest.console());
    const frames = await manager.log(job.id);
    assert.equal(textOf(frames, "stdout"), "out1\nout2\nout3\n");
    assert.equal(textOf(frames, "stderr"), "err1\nerr2\nerr3\n");
    const order = frames.filter(({ stream }) => stream !== "mayfly");
    assert.equal(
      Buffer.concat(order.map(({ bytes }) => bytes)).toString(),
      "out1\nerr1\nout2\nerr2\nout3\nerr3\n",
    );
    assert.deepEqual(
      frames.map(({ seq }) => seq),
      frames.map((_, index) => index + 1),
    );
    const times = frames.map(({ at }) => at);
    assert.deepEqual(
      times,
      times.toSorted((a, b) => a - b),
    );
    assert.ok((times[0] ?? 0) >= begun - 1000 && (times.at(-1) ?? 0) <= Date.now() + 1000);
    assert.equal(job.outcome, "success");
    assert.equal(job.exitCode, 0);
  });

  test("may print any bytes, and no newline at the end", async () => {
    const { frames } = await run(
      `perl -e 'print map { chr } 0..255; print STDERR "\\xff\\n1 2 stdout 3\\nno end"'`,
    );
    assert.deepEqual(
      bytesOf(frames, "stdout"),
      Buffer.from(Array.from({ length: 256 }, (_, index) => index)),
    );
    assert.deepEqual(
      bytesOf(frames, "stderr"),
      Buffer.from("\xff\n1 2 stdout 3\nno end", "latin1"),
    );
  });

  test("may print 50 MB, and all of it arrives", async () => {
    const mebibyte = Buffer.alloc(1024 * 1024, "0123456789abcdef\n");
    writeFileSync(join(folder, "mebibyte"), mebibyte);
    const { frames } = await run(
      `i=0; while [ $i -lt 50 ]; do cat ${join(folder, "mebibyte")}; i=$((i+1)); done; echo end >&2`,
    );
    const hash = createHash("sha256");
    for (let i = 0; i < 50; i++) hash.update(mebibyte);
    const got = createHash("sha256").update(bytesOf(frames, "stdout")).digest("hex");
    assert.equal(got, hash.digest("hex"));
    assert.equal(textOf(frames, "stderr"), "end\n");
  });

  test("may print nothing at all", async () => {
    const { frames, job } = await run(":");
    assert.equal(job.outcome, "success");
    assert.ok(frames.every(({ stream }) => stream === "mayfly"));
  });

  test("that fails gives its status", async () => {
    const { job } = await run("exit 42");
    assert.equal(job.outcome, "failure");
    assert.equal(job.exitCode, 42);
    assert.equal(job.reason, "exit status 42");
  });

  test("that is killed gives 128 and the signal", async () => {
    const { job } = await run("kill -9 $$");
    assert.equal(job.exitCode, 137);
    assert.match(job.reason, /signal 9/);
  });

  test("that is not there gives 127 and says why", async () => {
    const { job, text } = await run("", { command: ["/nowhere/at-all", "x"] });
    assert.equal(job.exitCode, 127);
    assert.match(text("mayfly"), /cannot run \/nowhere\/at-all: No such file or directory/);
    assert.equal(text("stderr"), "");
  });

  test("gets its words as they are, whatever is in them", async () => {
    const words = ["a b", "", "$(id)", "'\"`", "ü €", "line\nbreak", "%41", "-n"];
    const { text } = await run("", { command: ["printf", "[%s]", ...words] });
    assert.equal(text("stdout"), words.map((word) => `[${word}]`).join(""));
  });

  test("sees the declared variables and a few of ours, nothing of the guest's", async () => {
    const { text, guest, job } = await run("env -0", {
      environment: { COLOUR: "grün\nund = blau", EMPTY: "", CI: "of course" },
    });
    const seen = new Map(
      text("stdout")
        .split("\0")
        .filter((line) => line !== "")
        .map((line): [string, string] => {
          const at = line.indexOf("=");
          return [line.slice(0, at), line.slice(at + 1)];
        }),
    );
    assert.equal(seen.get("COLOUR"), "grün\nund = blau");
    assert.equal(seen.get("EMPTY"), "");
    assert.equal(seen.get("CI"), "of course");
    assert.equal(seen.get("MAYFLY_JOB"), job.id);
    assert.equal(seen.get("PWD"), guest.work);
    const known =
      "CI COLOUR EMPTY HOME LANG LOGNAME MAYFLY MAYFLY_JOB MAYFLY_REPOSITORY PATH PWD SHELL USER _ SHLVL";
    for (const name of seen.keys()) assert.ok(known.split(" ").includes(name), `${name} is there`);
  });

  test("has no input, no terminal, and a session of its own", async () => {
    const { text, job } = await run(
      `cat; test -t 0 && echo terminal; ps -o sid= -p $$ | tr -d ' '; echo $$`,
    );
    const [session, pid] = text("stdout").trim().split("\n");
    assert.equal(session, pid);
    assert.equal(job.outcome, "success");
  });

  test("has the usual meaning of signals", async () => {
    const { text } = await run(`yes | head -n 1; perl -e 'print $SIG{PIPE} // "default"'`);
    assert.equal(text("stdout"), "y\ndefault");
  });
});

describe("an end from outside", () => {
  test("a job that waits is cancelled at once", async () => {
    const job = await manager.native.submit(scriptJob("echo never", { labels: newClass() }));
    const cancelled = await manager.native.cancel(job.id, "no longer needed");
    assert.equal(cancelled.state, "ended");
    assert.equal(cancelled.outcome, "cancelled");
    await assert.rejects(manager.native.cancel(job.id, "again"), { code: "conflict" });
    await assert.rejects(manager.native.cancel("native-none", "x"), { code: "not_found" });
  });

  test("a job that runs is told at once, by SIGTERM to its whole group", async () => {
    const { job, guest } = await start(
      `(trap 'echo child; exit' TERM; echo up; while :; do sleep 0.05; done) &
       trap 'echo parent; wait; exit 7' TERM; echo ready; while :; do sleep 0.05; done`,
    );
    await heard(job.id, "ready");
    await heard(job.id, "up");
    const asked = await manager.native.cancel(job.id, "somebody said so");
    assert.equal(asked.state, "started");
    const ended = await manager.ended(job.id);
    assert.equal(ended.outcome, "cancelled");
    assert.equal(ended.exitCode, null);
    assert.equal(ended.reason, "somebody said so");
    assert.equal(await guest.over, 0);
    const said = await manager.text(job.id, "stdout");
    assert.ok(said.includes("parent") && said.includes("child"), said);
  });

  test("a job that ignores it is killed after the grace", async () => {
    const { job, guest } = await start(`trap '' TERM; echo ready $$; while :; do sleep 0.1; done`);
    await heard(job.id, "ready");
    await manager.native.cancel(job.id, "stop");
    const ended = await manager.ended(job.id);
    assert.equal(ended.outcome, "cancelled");
    assert.equal(await guest.over, 0);
    const pid = Number((await manager.text(job.id, "stdout")).split(" ")[1]);
    await isGone(pid);
  });

  test("a job that takes too long has timed out", async () => {
    const { job, text, timeoutSeconds } = await runUntilMarked(
      (mark) => `echo begun; : >${mark}; sleep 100`,
    );
    assert.equal(job.outcome, "timed_out");
    assert.equal(job.exitCode, null);
    assert.equal(job.reason, `it ran longer than ${timeoutSeconds} s`);
    assert.equal(text("stdout"), "begun\n");
  });

  test("a pool's own limit holds whatever the job asks for", async () => {
    const labels = newClass();
    const job = await manager.native.submit(scriptJob("sleep 100", { labels, timeoutSeconds: 99 }));
    const [runner] = await manager.claimRunner(labels);
    const claim = manager.tokens.claim(runner);
    launch(
      guestProgram({ managerUrl: manager.url, claim, jobSeconds: 1, lifeSeconds: 100 }),
      folder,
    );
    const ended = await manager.ended(job.id);
    assert.equal(ended.outcome, "timed_out");
    assert.equal(ended.reason, "it ran longer than 1 s");
  });

  test("a machine that its provider takes back says so, and its job is worth another try", async () => {
    const { job, guest } = await start("echo ready; sleep 100");
    await heard(job.id, "ready");
    guest.child.kill("SIGUSR1");
    const ended = await manager.ended(job.id);
    assert.deepEqual([ended.outcome, ended.reason], ["lost", "its machine is taken back"]);
    assert.equal(await guest.over, 0);
    const wanted = await interruptedJobs(manager.store.db, "native", 0, 10);
    assert.deepEqual(
      wanted.map(({ id }) => id),
      [job.id],
    );
  });

  test("a machine that is told to stop says that its job did not end by itself", async () => {
    const { job, guest } = await start("echo ready; sleep 100");
    await heard(job.id, "ready");
    guest.child.kill("SIGTERM");
    const ended = await manager.ended(job.id);
    assert.equal(ended.outcome, "error");
    assert.equal(ended.reason, "the machine was told to stop");
    assert.equal(await guest.over, 0);
  });

  test("a runner that is ended takes its guest along", async () => {
    const { job, guest, runner } = await start("echo ready; sleep 100");
    await heard(job.id, "ready");
    await manager.store.write((tx) => endRunner(tx, runner, "its time is over"));
    assert.equal(await guest.over, 0);
    assert.match(await manager.text(job.id, "mayfly"), /its time is over/);
  });

  test("the deadline ends a machine though nobody listens any more", async (t) => {
    const silent = createHttpServer((request, response) => {
      if (request.url === "/v1/guest/redeem") response.end("session=s\n");
      if (request.url?.startsWith("/v1/guest/work") === true) {
        response.end("job=j\narg=sleep\narg=300\n");
      }
    });
    const socket = join(folder, "deaf.sock");
    t.after(() => {
      silent.closeAllConnections();
      silent.close();
    });
    await new Promise<void>((resolve) => silent.listen(socket, resolve));
    const program = guestProgram({
      managerUrl: `unix:${socket}`,
      claim: "any",
      // A minute is added for the report: two seconds in all.
      jobSeconds: -58,
      lifeSeconds: 60,
    });
    const guest = launch(program, folder);
    assert.equal(await guest.over, 1);
    assert.match(guest.console(), /the deadline has passed/);
  });

  test("a manager that accepts and says nothing does not hold a machine", async (t) => {
    const silent = createServer(() => {});
    t.after(() => silent.close());
    const socket = join(folder, "silent.sock");
    await new Promise<void>((resolve) => silent.listen(socket, resolve));
    const program = guestProgram({
      managerUrl: `unix:${socket}`,
      claim: manager.tokens.claim("test-small-x"),
      jobSeconds: 1,
      lifeSeconds: 1,
    });
    const guest = launch(program, folder);
    assert.equal(await guest.over, 1);
  });
});

describe("leftovers", () => {
  test("children that hold the pipes do not keep the job, and do not outlive it", async () => {
    const { job, text, guest } = await run(`sleep 300 & echo $!; echo done`);
    assert.equal(job.outcome, "success");
    const [pid, last] = text("stdout").trim().split("\n");
    assert.equal(last, "done");
    await isGone(Number(pid));
    assert.equal(await guest.over, 0);
  });

  test("what they still say within the grace is kept", async () => {
    const { text } = await runUntilMarked(
      (mark) => `(sleep 0.3; echo late; : >${mark}) & echo early`,
      { timeoutSeconds: null },
    );
    assert.equal(text("stdout"), "early\nlate\n");
  });

  test("a daemon in a session of its own is found", { skip: noProc }, async () => {
    const { text } = await run(
      `setsid sh -c 'sleep 300 </dev/null >/dev/null 2>&1 & echo $!; : >begun; exec sleep 300' &
       until [ -e begun ]; do sleep 0.02; done`,
    );
    await isGone(Number(text("stdout").trim()));
  });
});

test("a guest that is killed takes its job along", { skip: noProc }, async () => {
  const { job, guest } = await start(`echo pid $$; while :; do sleep 0.05; done`);
  await heard(job.id, "pid");
  const pid = Number(/pid (\d+)/.exec(await manager.text(job.id, "stdout"))?.[1]);
  assert.equal(isAlive(pid), true);
  guest.child.kill("SIGKILL");
  assert.equal(await guest.over, "SIGKILL");
  await isGone(pid);
});

const perlBase = spawnSync("perl", ["-e", "print grep { m{/perl-base$} } @INC"]).stdout.toString();
test("the guest needs perl-base alone", { skip: perlBase === "" && "needs Debian's" }, () => {
  const only = 'BEGIN { @INC = grep { m{/perl-base$} } @INC } require "./guest.pl"';
  const { stderr } = spawnSync("perl", ["-e", only], { cwd: import.meta.dirname });
  assert.match(stderr.toString(), /^usage: guest\.pl/);
});

describe("a claim", () => {
  test("works once", async () => {
    const labels = newClass();
    const [runner, program] = await manager.claimRunner(labels);
    const first = launch(program, folder);
    await eventually(async () =>
      (await findRunner(manager.store.db, runner))?.state === "up" ? true : null,
    );
    const second = launch(program, folder);
    assert.notEqual(await second.over, 0);
    assert.match(second.console(), /already redeemed/);
    await manager.store.write((tx) => endRunner(tx, runner, "not needed"));
    assert.equal(await first.over, 0);
    assert.match(first.console(), /not needed/);
  });

  test("is nowhere a job could see it", async () => {
    const { text, runner, guest } = await run(
      `cat /proc/*/cmdline /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat ../../program/* 2>/dev/null`,
    );
    const claim = manager.tokens.claim(runner);
    assert.ok(text("stdout").includes("guest.pl"));
    assert.equal(text("stdout").includes(claim), false);
    assert.equal(existsSync(join(guest.work, "../../program/claim")), false);
  });

  test("of somebody else is refused", async () => {
    const program = guestProgram({
      managerUrl: manager.url,
      claim: `test-small-abcdefgh.${"0".repeat(64)}`,
      jobSeconds: 10,
      lifeSeconds: 30,
    });
    const guest = launch(program, folder);
    assert.notEqual(await guest.over, 0);
    assert.match(guest.console(), /the claim was refused/);
  });
});

describe("a manager elsewhere", () => {
  test("is reached over TCP", async (t) => {
    const { url, close } = await manager.listenTcp();
    t.after(close);
    const labels = newClass();
    const job = await manager.native.submit(scriptJob("echo far", { labels }));
    const [, program] = await manager.claimRunner(labels, url);
    const guest = launch(program, folder);
    assert.equal((await manager.ended(job.id)).outcome, "success");
    assert.equal(await manager.text(job.id, "stdout"), "far\n");
    assert.equal(await guest.over, 0);
  });

  const noOpenssl = spawnSync("openssl", ["version"]).status !== 0 && "needs openssl";
  test("is reached over TLS, when its certificate is good", { skip: noOpenssl }, async (t) => {
    const [key, certificate] = [join(folder, "key.pem"), join(folder, "certificate.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key].concat(
        ["-out", certificate],
        subject,
      ),
      { stdio: "ignore" },
    );
    const { url, close } = await manager.listenTcp({
      key: readFileSync(key),
      cert: readFileSync(certificate),
    });
    t.after(close);
    const labels = newClass();
    const script = "cat data | tee copy; i=0; while [ $i -lt 40 ]; do echo $i; i=$((i+1)); done";
    writeFileSync(join(folder, "data"), "x".repeat(300_000));
    const archive = Readable.from(create({ cwd: folder }, ["data"]));
    const { sha256 } = await manager.native.keepTree(archive);
    const source = { kind: "tree", sha256, commit: null } as const;
    const job = await manager.native.submit(
      scriptJob(script, { labels, source, artifacts: ["copy"] }),
    );
    const [runner, program] = await manager.claimRunner(labels, url);
    // It does not know this certificate, and so says nothing.
    const wary = launch({ ...program, deadlineSeconds: 2 }, folder);
    await eventually(() => (/trying again/.test(wary.console()) ? true : null));
    wary.child.kill("SIGTERM");
    await wary.over;
    assert.equal((await findRunner(manager.store.db, runner))?.state, "claimed");
    const guest = launch(program, folder, { SSL_CERT_FILE: certificate });
    assert.equal((await manager.ended(job.id)).outcome, "success");
    assert.equal((await manager.text(job.id, "stdout")).length, 300_000 + 10 * 2 + 30 * 3);
    assert.equal(await guest.over, 0);
    const [kept] = await listArtifacts(manager.store.db, job.id);
    assert.equal(kept?.size, 300_000);
  });
});

describe("artifacts", () => {
  test("come back by path and pattern", async () => {
    const { job } = await run(
      `mkdir -p dist/deep "with space"; printf a >dist/a.tgz; printf b >dist/b.txt
       printf c >dist/deep/c.tgz; : >dist/empty.tgz; printf s >"with space/ü%2F.log"; printf n >not`,
      { artifacts: ["dist/*.tgz", "with space", "**/c.*"] },
    );
    const kept = await listArtifacts(manager.store.db, job.id);
    assert.deepEqual(
      kept.map(({ path, size }) => [path, size]),
      [
        ["dist/a.tgz", 1],
        ["dist/deep/c.tgz", 1],
        ["dist/empty.tgz", 0],
        ["with space/ü%2F.log", 1],
      ],
    );
    const chunks: Buffer[] = [];
    for await (const chunk of await manager.native.openArtifact(job.id, "with space/ü%2F.log")) {
      chunks.push(chunk as Buffer);
    }
    assert.equal(Buffer.concat(chunks).toString(), "s");
  });

  test("never come from outside of the work folder", async () => {
    writeFileSync(join(folder, "secret"), "secret");
    mkdirSync(join(folder, "secrets"), { recursive: true });
    writeFileSync(join(folder, "secrets", "deep"), "secret");
    const { job, text } = await run(
      `ln -s ${join(folder, "secret")} out; ln -s ${join(folder, "secrets")} folder
       ln -s /dev/zero zero; mkfifo pipe; echo ok >inside; ln -s inside link; ln -s nowhere broken`,
      { artifacts: ["*", "folder/deep", "folder/*"] },
    );
    assert.equal(job.outcome, "success");
    const kept = await listArtifacts(manager.store.db, job.id);
    assert.deepEqual(
      kept.map(({ path }) => path),
      ["inside", "link"],
    );
    assert.match(text("mayfly"), /artifact out is left behind: it leads out of the work folder/);
    assert.match(text("mayfly"), /artifact zero is left behind: it leads out/);
    assert.match(text("mayfly"), /artifact broken is left behind: it leads nowhere/);
  });

  test("that are not there are said, and fail nothing", async () => {
    const { job, text } = await run("exit 0", { artifacts: ["dist/*.tgz", "no/such/file"] });
    assert.equal(job.outcome, "success");
    assert.match(text("mayfly"), /no file matches dist\/\*\.tgz/);
    assert.match(text("mayfly"), /no file matches no\/such\/file/);
  });

  test("of a job that failed or took too long come too", async () => {
    const failed = await run("echo x >report; exit 1", { artifacts: ["report"] });
    assert.equal((await listArtifacts(manager.store.db, failed.job.id)).length, 1);
    const late = await runUntilMarked((mark) => `echo x >report; : >${mark}; sleep 100`, {
      artifacts: ["report"],
    });
    assert.equal(late.job.outcome, "timed_out");
    assert.equal((await listArtifacts(manager.store.db, late.job.id)).length, 1);
  });
});
