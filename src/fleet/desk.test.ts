import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { create, list } from "tar";
import { eventually, Manager, scratchFolder, scriptJob } from "../../test/guests.ts";
import { history } from "../store/facts.ts";
import { findRunner } from "../store/questions.ts";
import { endRunner } from "../store/runners.ts";
import { listArtifacts } from "../store/logs.ts";

let root = "";
let repository = "";
let manager: Manager;
let states = 0;

before(() => {
  root = scratchFolder();
  repository = join(root, "repositories", "rocket");
  mkdirSync(repository, { recursive: true });
  writeFileSync(join(repository, "Makefile"), "test:\n\ttrue\n");
  const git = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-C", repository];
  execFileSync("git", [...git, "init", "-q", "-b", "main"]);
  execFileSync("git", [...git, "add", "-A"]);
  execFileSync("git", [...git, "commit", "-q", "-m", "one"]);
});

after(() => rmSync(root, { recursive: true, force: true }));

beforeEach(async () => {
  const folder = join(root, `state-${states++}`);
  mkdirSync(folder);
  const pool = { labels: ["gpu"] };
  manager = await Manager.open(folder, { pool, paths: [join(root, "repositories")] });
});

afterEach(() => manager.close());

const never = new AbortController().signal;
const nonce = "ab".repeat(16);

/** The session of a new runner's guest. */
async function session(labels: readonly string[] = []): Promise<[string, string]> {
  const [runner] = await manager.claimRunner(labels);
  const { session } = await manager.guests.redeem(manager.tokens.claim(runner), nonce);
  return [session, runner];
}

function frame(seq: number, text: string) {
  return { seq, at: 1, stream: "stdout", bytes: Buffer.from(text) } as const;
}

const exited = { how: "exited", exitCode: 0, detail: "" } as const;

describe("a claim", () => {
  test("is exchanged for a session; the same nonce again gives the same", async () => {
    const [runner] = await manager.claimRunner();
    const claim = manager.tokens.claim(runner);
    const first = await manager.guests.redeem(claim, nonce);
    assert.equal(first.runner, runner);
    assert.deepEqual(await manager.guests.redeem(claim, nonce), first);
    await assert.rejects(manager.guests.redeem(claim, "cd".repeat(16)), { code: "conflict" });
    assert.equal((await findRunner(manager.store.db, runner))?.state, "up");
  });

  test("that is not ours is refused", async () => {
    const [runner] = await manager.claimRunner();
    const claim = manager.tokens.claim(runner);
    const { session } = await manager.guests.redeem(claim, nonce);
    const unknown = manager.tokens.claim("test-small-unknown");
    for (const bad of [
      "",
      runner,
      `${runner}.`,
      claim.slice(0, -1),
      `x${claim}`,
      session,
      unknown,
    ]) {
      await assert.rejects(manager.guests.redeem(bad, nonce), { code: "unauthenticated" }, bad);
    }
    for (const bad of ["", "short", "x".repeat(32), "ab".repeat(100)]) {
      await assert.rejects(manager.guests.redeem(claim, bad), { code: "invalid" });
    }
  });

  test("is no session, and another's session opens nothing", async () => {
    const [runner] = await manager.claimRunner();
    const [other] = await session();
    const claim = manager.tokens.claim(runner);
    const forged = other.replace(/^[^.]+/, runner);
    for (const bad of [claim, forged, "", "a.b", `${runner}.${"0".repeat(64)}`]) {
      for (const call of [
        manager.guests.work(bad, 0, never),
        manager.guests.source(bad),
        manager.guests.append(bad, []),
        manager.guests.orders(bad, 0, never),
        manager.guests.keepArtifact(bad, "a", Readable.from([])),
        manager.guests.finish(bad, exited),
      ]) {
        await assert.rejects(call, { code: "unauthenticated" });
      }
    }
  });
});

describe("work", () => {
  test("is there at once, with what the job says", async () => {
    const [mine] = await session();
    const job = await manager.native.submit(
      scriptJob("true", { environment: { A: "b" }, timeoutSeconds: 7, artifacts: ["x"] }),
    );
    const work = await manager.guests.work(mine, 0, never);
    assert.deepEqual(work, {
      job: job.id,
      command: ["sh", "-c", "true"],
      environment: { MAYFLY_REPOSITORY: "acme/rocket", A: "b" },
      timeoutSeconds: 7,
      artifacts: ["x"],
      hasSource: false,
    });
    assert.deepEqual(await manager.guests.work(mine, 0, never), work);
  });

  test("is waited for, and comes with its commit", async () => {
    const [mine] = await session();
    const waiting = manager.guests.work(mine, 20_000, never);
    const job = await manager.native.submit(scriptJob("true"));
    assert.equal((await waiting)?.job, job.id);
  });

  test("goes to as many as there are jobs; the others wait on", async () => {
    const stop = new AbortController();
    const sessions = await Promise.all(Array.from({ length: 6 }, () => session()));
    const waiting = sessions.map(([one]) => manager.guests.work(one, 20_000, stop.signal));
    const jobs = await Promise.all(
      Array.from({ length: 4 }, () => manager.native.submit(scriptJob("true"))),
    );
    await eventually(async () => {
      const states = await Promise.all(jobs.map(({ id }) => manager.job(id)));
      return states.every(({ state }) => state === "started") ? true : null;
    });
    stop.abort();
    const given = (await Promise.all(waiting)).flatMap((work) => work?.job ?? []);
    assert.deepEqual(given.sort(), jobs.map(({ id }) => id).sort());
  });

  test("of another class is not given", async () => {
    const [plain] = await session();
    const [gpu] = await session(["gpu"]);
    const job = await manager.native.submit(scriptJob("true", { labels: ["gpu"] }));
    assert.equal(await manager.guests.work(plain, 0, never), null);
    assert.equal((await manager.guests.work(gpu, 0, never))?.job, job.id);
  });

  test("that does not come is none after the wait, or when the asker leaves", async () => {
    const [mine] = await session();
    assert.equal(await manager.guests.work(mine, 5, never), null);
    const leaver = new AbortController();
    const waiting = manager.guests.work(mine, 60_000, leaver.signal);
    leaver.abort();
    assert.equal(await waiting, null);
    assert.equal(await manager.guests.work(mine, 60_000, AbortSignal.abort()), null);
    // Nobody who left is given a job.
    const job = await manager.native.submit(scriptJob("true"));
    assert.equal((await manager.job(job.id)).state, "waiting");
  });

  test("is refused to a machine that is retired, also while it waits", async () => {
    const [mine, runner] = await session();
    const waiting = assert.rejects(manager.guests.work(mine, 20_000, never), {
      code: "conflict",
      message: "idle",
    });
    await manager.store.write((tx) => endRunner(tx, runner, "idle"));
    await waiting;
    const [removed, other] = await session();
    const alsoWaiting = manager.guests.work(removed, 20_000, never).then(
      (work) => assert.equal(work, null),
      (error: { code?: string }) => assert.equal(error.code, "conflict"),
    );
    assert.equal(await manager.forge.remove(other), "gone");
    await assert.rejects(manager.guests.work(removed, 0, never), { code: "unauthenticated" });
    await manager.native.submit(scriptJob("true"));
    await alsoWaiting;
  });

  test("that is over is not given again", async () => {
    const [mine] = await session();
    await manager.native.submit(scriptJob("true"));
    await manager.guests.work(mine, 0, never);
    await manager.guests.finish(mine, exited);
    await manager.native.submit(scriptJob("true"));
    await assert.rejects(manager.guests.work(mine, 0, never), { code: "conflict" });
  });
});

describe("output", () => {
  test("that comes twice is kept once", async () => {
    const [mine] = await session();
    const { id } = await manager.native.submit(scriptJob("true"));
    await manager.guests.work(mine, 0, never);
    await manager.guests.append(mine, [frame(1, "a"), frame(2, "b")]);
    await manager.guests.append(mine, [frame(2, "b"), frame(3, "c")]);
    assert.equal(await manager.text(id, "stdout"), "abc");
  });

  test("of a machine without a job is nobody's", async () => {
    const [mine] = await session();
    assert.deepEqual(await manager.guests.append(mine, [frame(1, "a")]), { cancel: null });
  });

  test("beyond its bound is dropped, and that is said once", async () => {
    const [mine] = await session();
    const { id } = await manager.native.submit(scriptJob("true"));
    await manager.guests.work(mine, 0, never);
    const bytes = Buffer.alloc(32 * 1024 * 1024);
    for (let seq = 1; seq <= 10; seq++) {
      await manager.guests.append(mine, [{ seq, at: 1, stream: "stdout", bytes }]);
    }
    await manager.guests.append(mine, [{ ...frame(11, "end"), stream: "mayfly" }]);
    const frames = await manager.log(id);
    assert.equal(frames.length, 8);
    assert.equal(frames.at(-1)?.stream, "mayfly");
    const said = (await history(manager.store.db, id)).filter(({ reason }) => /MiB/.test(reason));
    assert.equal(said.length, 1);
  });
});

describe("orders", () => {
  test("come when the job is cancelled, by every way", async () => {
    const [mine] = await session();
    const { id } = await manager.native.submit(scriptJob("true"));
    await manager.guests.work(mine, 0, never);
    assert.deepEqual(await manager.guests.orders(mine, 0, never), { cancel: null });
    const waiting = manager.guests.orders(mine, 20_000, never);
    await manager.native.cancel(id, "enough");
    assert.deepEqual(await waiting, { cancel: "enough" });
    assert.deepEqual(await manager.guests.orders(mine, 20_000, never), { cancel: "enough" });
    assert.deepEqual(await manager.guests.append(mine, []), { cancel: "enough" });
    assert.deepEqual(await manager.guests.append(mine, [frame(1, "a")]), { cancel: "enough" });
  });

  test("come when the runner is ended", async () => {
    const [mine, runner] = await session();
    await manager.native.submit(scriptJob("true"));
    await manager.guests.work(mine, 0, never);
    const waiting = manager.guests.orders(mine, 20_000, never);
    await manager.store.write((tx) => endRunner(tx, runner, "out of time"));
    assert.deepEqual(await waiting, { cancel: "out of time" });
  });
});

describe("an end", () => {
  for (const [how, exitCode, outcome] of [
    ["exited", 0, "success"],
    ["exited", 1, "failure"],
    ["timed_out", null, "timed_out"],
    ["cancelled", null, "cancelled"],
    ["error", null, "error"],
  ] as const) {
    test(`${how} ${exitCode ?? ""} is ${outcome}, and the machine goes`, async () => {
      const [mine, runner] = await session();
      const { id } = await manager.native.submit(scriptJob("true"));
      await manager.guests.work(mine, 0, never);
      await manager.guests.finish(mine, { how, exitCode, detail: "" });
      const job = await manager.job(id);
      assert.equal(job.state, "ended");
      assert.equal(job.outcome, outcome);
      assert.equal(job.exitCode, exitCode);
      assert.equal((await findRunner(manager.store.db, runner))?.state, "ended");
      // The answer was lost: again, and nothing changes.
      await manager.guests.finish(mine, { how: "exited", exitCode: 9, detail: "" });
      assert.deepEqual(await manager.job(id), job);
    });
  }

  test("does not undo what was decided before", async () => {
    const [mine] = await session();
    const { id } = await manager.native.submit(scriptJob("true"));
    await manager.guests.work(mine, 0, never);
    await manager.native.cancel(id, "enough");
    await manager.guests.finish(mine, exited);
    // It came to its end by itself after all.
    assert.equal((await manager.job(id)).outcome, "success");
  });
});

test("a guest that does not heed a cancellation is given up, and its machine ended", async () => {
  const [mine, runner] = await session();
  const { id } = await manager.native.submit(scriptJob("true"));
  await manager.guests.work(mine, 0, never);
  await manager.native.cancel(id, "enough");
  await manager.native.endDeaf();
  assert.equal((await manager.job(id)).state, "started");
  await manager.store.db.updateTable("cancellations").set({ at: 0 }).execute();
  await manager.native.endDeaf();
  const job = await manager.job(id);
  assert.equal(job.outcome, "cancelled");
  assert.match(job.reason, /enough; its guest did not answer/);
  assert.equal((await findRunner(manager.store.db, runner))?.state, "ended");
  await manager.guests.finish(mine, exited);
  assert.deepEqual(await manager.job(id), job);
});

describe("artifacts", () => {
  test("with a path that leads out are refused", async () => {
    const [mine] = await session();
    const { id } = await manager.native.submit(scriptJob("true"));
    await manager.guests.work(mine, 0, never);
    for (const path of ["", "/etc/passwd", "../x", "a/../../x", "a\nb", "a\0b", "x".repeat(1001)]) {
      const sent = manager.guests.keepArtifact(mine, path, Readable.from(["x"]));
      await assert.rejects(sent, { code: "invalid", where: "path" });
    }
    assert.deepEqual(await listArtifacts(manager.store.db, id), []);
    await assert.rejects(manager.native.openArtifact(id, "x"), { code: "not_found" });
  });

  test("sent again replace the ones before", async () => {
    const [mine] = await session();
    const { id } = await manager.native.submit(scriptJob("true"));
    await manager.guests.work(mine, 0, never);
    await manager.guests.keepArtifact(mine, "a", Readable.from([Buffer.from("one")]));
    await manager.guests.keepArtifact(mine, "a", Readable.from([Buffer.from("two!")]));
    const kept = await listArtifacts(manager.store.db, id);
    assert.deepEqual(
      kept.map(({ path, size }) => [path, size]),
      [["a", 4]],
    );
    await manager.guests.finish(mine, exited);
    const late = manager.guests.keepArtifact(mine, "b", Readable.from([Buffer.from("x")]));
    await assert.rejects(late, { code: "conflict" });
  });
});

describe("a submission", () => {
  test("of a repository is fetched first, and says what it found", async () => {
    const source = { kind: "git", url: repository, revision: "main" } as const;
    const job = await manager.native.submit(scriptJob("", { command: [], source, pool: "small" }));
    assert.deepEqual(job.work?.command, ["mayfly-target", "test"]);
    assert.deepEqual(job.labels, ["small"]);
    assert.equal(job.name, "test");
    assert.equal(job.work?.source.kind, "tree");
    const said = await history(manager.store.db, job.id);
    assert.ok(
      said.some(({ reason }) => /^main is commit [0-9a-f]{40}, tree [0-9a-f]{40}/.test(reason)),
    );
  });

  test("that cannot be names the field, and stores nothing", async () => {
    const git = { kind: "git", url: repository, revision: "nowhere" } as const;
    for (const [changes, code, where] of [
      [{ source: git }, "not_found", "source.revision"],
      [{ source: { ...git, revision: "--upload-pack=x" } }, "invalid", "source.revision"],
      [{ source: { ...git, url: "/etc" } }, "forbidden", "source.url"],
      [
        { source: { kind: "tree", sha256: "0".repeat(64), commit: null } },
        "not_found",
        "source.sha256",
      ],
      [{ pool: "large" }, "not_found", "pool"],
      [{ command: [""] }, "invalid", "command"],
      [{ target: "x" }, "invalid", "target"],
      [{ command: [], target: "-f" }, "invalid", "target"],
      [{ timeoutSeconds: 0.5 }, "invalid", "timeoutSeconds"],
      [{ environment: { "A-B": "" } }, "invalid", "environment.A-B"],
      [{ artifacts: [".."] }, "invalid", "artifacts[0]"],
    ] as const) {
      await assert.rejects(manager.native.submit(scriptJob("true", changes)), { code, where });
    }
    const { rows } = await manager.store.db
      .selectFrom("jobs")
      .select("id")
      .execute()
      .then((all) => ({ rows: all }));
    assert.deepEqual(rows, []);
  });

  test("for which there is no pool ends at once, saying why", async () => {
    const job = await manager.native.submit(scriptJob("true", { labels: ["quantum"] }));
    assert.equal(job.outcome, "refused");
    assert.match(job.reason, /quantum/);
  });

  test("has a name on one line", async () => {
    const job = await manager.native.submit(scriptJob("a\nb\u001b[2J"));
    assert.equal(job.name, "sh -c a b [2J");
  });
});

describe("the source", () => {
  async function event(body: object, delivery: string): Promise<string> {
    const bytes = Buffer.from(JSON.stringify(body));
    const mac = createHmac("sha256", "a secret of the forge").update(bytes).digest("hex");
    const headers = {
      "x-mayfly-signature-256": `sha256=${mac}`,
      "x-mayfly-delivery": delivery,
    };
    const { jobs } = await manager.intake.receive("native", { headers, body: bytes });
    return jobs[0] ?? "";
  }

  test("of an event is fetched when a machine asks for it, once", async () => {
    const source = { kind: "git", url: repository, revision: "main" };
    const id = await event({ source, command: ["true"] }, "one");
    const [mine] = await session();
    await manager.guests.work(mine, 0, never);
    const streams = await Promise.all([manager.guests.source(mine), manager.guests.source(mine)]);
    for (const stream of streams) {
      const paths: string[] = [];
      const reading = list({ onReadEntry: (entry) => paths.push(entry.path) });
      for await (const chunk of stream) reading.write(chunk as Buffer);
      reading.end();
      assert.deepEqual(paths, ["Makefile"]);
    }
    const job = await manager.job(id);
    assert.equal(job.work?.source.kind, "tree");
    const facts = await history(manager.store.db, id);
    assert.equal(facts.filter(({ reason }) => reason.startsWith("main is commit")).length, 1);
  });

  test("that is not there is said to the machine", async () => {
    await event({ source: { kind: "git", url: repository, revision: "gone" } }, "two");
    const [mine] = await session();
    await manager.guests.work(mine, 0, never);
    await assert.rejects(manager.guests.source(mine), { code: "not_found" });
  });

  test("that is out of reach is tried some times, then given up", async () => {
    await event({ source: { kind: "git", url: "https://127.0.0.1:1/x", revision: "a" } }, "three");
    const [mine] = await session();
    await manager.guests.work(mine, 0, never);
    await assert.rejects(manager.guests.source(mine), { code: "unavailable" });
    await assert.rejects(manager.guests.source(mine), { code: "unavailable" });
    await assert.rejects(manager.guests.source(mine), { code: "conflict", message: /3 times/ });
  });

  test("a job without one has none", async () => {
    await manager.native.submit(scriptJob("true"));
    const [mine] = await session();
    await assert.rejects(manager.guests.source(mine), { code: "conflict" });
    await manager.guests.work(mine, 0, never);
    await assert.rejects(manager.guests.source(mine), { code: "not_found" });
  });
});

test("pruning keeps what a job still needs, and what is young", async () => {
  const day = 24 * 3600 * 1000;
  const keep = async (text: string): Promise<string> => {
    writeFileSync(join(manager.folder, "one"), text);
    const archive = Readable.from(create({ cwd: manager.folder }, ["one"]));
    return (await manager.native.keepTree(archive)).sha256;
  };
  const [needed, old, young] = [await keep("a"), await keep("b"), await keep("c")];
  const source = { kind: "tree", sha256: needed, commit: null } as const;
  const job = await manager.native.submit(scriptJob("true", { source }));
  const [mine] = await session();
  await manager.guests.work(mine, 0, never);
  const { sha256 } = await manager.guests.keepArtifact(
    mine,
    "a",
    Readable.from([Buffer.from("x")]),
  );
  const past = new Date(Date.now() - 2 * day);
  for (const tree of [needed, old]) {
    utimesSync(join(manager.folder, "sources", `${tree}.tar`), past, past);
  }
  utimesSync(join(manager.folder, "artifacts", sha256), past, past);
  writeFileSync(join(manager.folder, "artifacts", "0".repeat(64)), "nobody's");
  utimesSync(join(manager.folder, "artifacts", "0".repeat(64)), past, past);

  await manager.prune(Date.now());
  const trees = (): string[] => readdirSync(join(manager.folder, "sources")).sort();
  assert.deepEqual(trees(), [`${needed}.tar`, `${young}.tar`].sort());
  assert.deepEqual(readdirSync(join(manager.folder, "artifacts")), [sha256]);

  await manager.guests.finish(mine, exited);
  await manager.prune(Date.now() + 31 * day);
  assert.deepEqual(trees(), []);
  assert.deepEqual(readdirSync(join(manager.folder, "artifacts")), []);
  assert.deepEqual(await listArtifacts(manager.store.db, job.id), []);
});
