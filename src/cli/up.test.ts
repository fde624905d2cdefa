import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before, suite } from "node:test";
import type { JobView, MachineView } from "../web/views.ts";
import { exit } from "./exit.ts";
import { tryProvider } from "./setting.ts";
import { mayfly, Running, type CommandOptions, type Ended } from "./testing.ts";

/* The whole of it: a real server with real processes for machines, asked by the real command. */

const root = join(import.meta.dirname, "..", "..");
let folder = "";
let lacking: string | null = null;
let server: Running;
let environment: Record<string, string> = {};

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "mayfly-up-"));
  const part = { name: "host", kind: "host", options: {} };
  lacking = (await tryProvider(part, join(folder, "tried"))).problem;
  if (lacking !== null) return;
  await writeFile(
    join(folder, "mayfly.yaml"),
    "providers: { here: { host: } }\npools: { small: { size: 1cpu1gb, max: 2, idle: 5s } }\n",
  );
  server = up();
  environment = { MAYFLY_SERVER: await urlOf(server), MAYFLY_STATE: join(folder, "state") };
  makeRepository();
});

after(async () => {
  if (lacking === null) {
    server.child.kill("SIGTERM");
    assert.equal((await server.ended).code, 0, server.stderr);
  }
  await rm(folder, { recursive: true, force: true });
});

function up(...more: string[]): Running {
  const args = ["up", "--json", "--state", join(folder, "state"), "--listen", ":0", ...more];
  return new Running(args, { folder });
}

async function urlOf(running: Running): Promise<string> {
  await running.printed("stdout", /\n/);
  return (JSON.parse(running.stdout) as { url: string }).url;
}

function makeRepository(): void {
  const path = join(folder, "rocket");
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", path, "-c", "user.name=A", "-c", "user.email=a@b", ...args]);
  execFileSync("git", ["init", "-q", path]);
  execFileSync("sh", ["-c", 'printf "test:\\n\\tcat a.txt\\n" > Makefile; echo one > a.txt'], {
    cwd: path,
  });
  git("add", "-A");
  git("commit", "-qm", "first");
}

function ask(args: readonly string[], more: CommandOptions = {}): Promise<Ended> {
  return mayfly(args, { folder: join(folder, "rocket"), environment, ...more });
}

function it(name: string, body: (t: test.TestContext) => Promise<void>): void {
  test(name, async (t) => {
    if (lacking !== null) return t.skip(`plain processes cannot be machines here: ${lacking}`);
    return body(t);
  });
}

suite("mayfly up and submit --wait", () => {
  it("hands the command's streams and status through", async () => {
    const script = 'cat a.txt; echo "error: $WHAT" >&2; exit 7';
    const { code, stdout, stderr } = await ask([
      "submit",
      "--wait",
      "--env",
      "WHAT=boom",
      "--",
      "sh",
      "-c",
      script,
    ]);
    assert.equal(code, 7);
    assert.equal(stdout, "one\n");
    assert.match(stderr, /^error: boom$/m);
    assert.match(stderr, /native-\w+ failed with status 7 in .*, on \w+-small-\w+$/m);
  });

  it("runs the repository's own target when there is no command", async () => {
    const { code, stdout } = await ask(["submit", "--wait"]);
    assert.equal(code, 0);
    assert.equal(stdout, "cat a.txt\none\n");
  });

  it("ends a job that takes too long with the status of timeout(1)", async () => {
    const { code, stderr } = await ask([
      "submit",
      "--wait",
      "--timeout",
      "1s",
      "--",
      "sleep",
      "60",
    ]);
    assert.equal(code, exit.timedOut);
    assert.match(stderr, /timed out/);
  });

  it("refuses what no pool can run, and says why", async () => {
    const { code, stderr } = await ask(["submit", "--wait", "--label", "512cpu", "--", "true"]);
    assert.equal(code, exit.forbidden);
    assert.match(stderr, /was refused: pool small: 512 cpu asked/);
    const unknown = await ask(["submit", "--pool", "big", "--", "true"]);
    assert.equal(unknown.code, exit.notFound);
    assert.match(unknown.stderr, /there is no pool "big"/);
  });

  it("takes an archive from standard input", async () => {
    const input = execFileSync("tar", ["-c", "-C", join(folder, "rocket"), "a.txt"]);
    const { code, stdout } = await ask(
      ["submit", "--wait", "--tarball", "-", "--", "cat", "a.txt"],
      { input },
    );
    assert.deepEqual([code, stdout], [0, "one\n"]);
  });

  it("brings artifacts back", async () => {
    const script = "mkdir out; echo result > out/r.txt";
    const submitted = await ask([
      "submit",
      "--wait",
      "--json",
      "--artifact",
      "out/*",
      "--",
      "sh",
      "-c",
      script,
    ]);
    const { id } = JSON.parse(submitted.stdout) as JobView;
    const to = join(folder, "fetched");
    assert.equal((await ask(["artifacts", id, "--to", to])).code, 0);
    assert.equal(await readFile(join(to, "out", "r.txt"), "utf8"), "result\n");
  });
});

suite("looking on", () => {
  it("follows, explains and cancels a running job by its first letters", async () => {
    const submitted = await ask(["submit", "--", "sh", "-c", "echo begun; sleep 600"]);
    assert.equal(submitted.code, 0);
    const id = submitted.stdout.trim();
    const short = id.slice("native-".length, -3);
    const following = new Running(["logs", "-f", short], { environment });
    await following.printed("stdout", /begun\n/);

    assert.match((await ask(["why", short])).stdout, new RegExp(`^${id}: It runs on `));
    const { machines } = JSON.parse((await ask(["machines", "--json"])).stdout) as {
      machines: MachineView[];
    };
    assert.ok(machines.some(({ job }) => job === id));
    assert.match((await ask(["runners"])).stdout, new RegExp(id));
    assert.match((await ask(["status"])).stdout, /^small .* here /m);

    assert.equal((await ask(["cancel", short])).code, 0);
    assert.equal((await following.ended).code, 0);
    const { jobs } = JSON.parse((await ask(["jobs", "--json"])).stdout) as { jobs: JobView[] };
    assert.equal(jobs.find((job) => job.id === id)?.outcome, "cancelled");
    const again = await ask(["cancel", id]);
    assert.equal(again.code, exit.failed);
    assert.match(again.stderr, /is over already: cancelled/);
  });

  it("an interrupt of submit --wait ends the job", async () => {
    const waiting = new Running(
      ["submit", "--wait", "--no-repo", "--", "sh", "-c", "echo on; sleep 600"],
      {
        environment,
      },
    );
    await waiting.printed("stdout", /on\n/);
    waiting.child.kill("SIGINT");
    const { code, stderr } = await waiting.ended;
    assert.equal(code, exit.interrupted);
    assert.match(stderr, /was cancelled/);
  });

  it("a wrong token is refused with what to do", async () => {
    const wrong = { ...environment, MAYFLY_TOKEN: "wrong" };
    const { code, stderr } = await ask(["submit", "--no-repo", "--", "true"], {
      environment: wrong,
    });
    assert.equal(code, exit.forbidden);
    assert.match(stderr, /→ The token of MAYFLY_TOKEN is not this server's/);
  });
});

suite("the server", () => {
  it("keeps its token to itself", async () => {
    const { mode } = await stat(join(folder, "state", "token"));
    assert.equal(mode & 0o777, 0o600);
    const token = (await readFile(join(folder, "state", "token"), "utf8")).trim();
    assert.match(token, /^[0-9a-f]{64}$/);
    assert.ok(!(server.stdout + server.stderr).includes(token));
  });

  it("lets no second one onto its state folder", async () => {
    const { code, stderr } = await up().ended;
    assert.equal(code, exit.failed);
    assert.match(stderr, new RegExp(`another Mayfly \\(process ${server.child.pid}\\) runs on`));
    assert.match(stderr, /of its own with --state/);
  });

  it("says so when its address is taken, and leaves the state folder free", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const taken = `127.0.0.1:${(other.address() as AddressInfo).port}`;
    try {
      const args = ["up", "--state", join(folder, "other"), "--listen", taken];
      const { code, stderr } = await mayfly(args, { folder });
      assert.equal(code, exit.failed);
      assert.match(stderr, /another program listens on .*\n.*--listen/);
    } finally {
      other.close();
    }
  });

  it("refuses a configuration with mistakes, each at its place", async () => {
    await mkdir(join(folder, "wrong"));
    await writeFile(join(folder, "wrong", "mayfly.yaml"), "pools:\n  a: { szie: 2cpu }\nx: 1\n");
    const { code, stdout, stderr } = await mayfly(["up"], { folder: join(folder, "wrong") });
    assert.deepEqual([code, stdout], [exit.config, ""]);
    assert.match(stderr, /^mayfly\.yaml:2:8: pools\.a\.szie: unknown key; did you mean "size"\?$/m);
    assert.match(stderr, /^mayfly\.yaml:3:1: x: unknown key/m);
  });

  it("says which provider cannot be opened, and what to do", async () => {
    const here = join(folder, "closed");
    await mkdir(here);
    const lab = '{ exec: { command: [sh, -c, "echo no key here >&2; exit 3"] } }';
    await writeFile(join(here, "mayfly.yaml"), `providers: { lab: ${lab} }\n`);
    const args = ["up", "--listen", ":0", "--state", join(here, "state")];
    const { code, stderr } = await mayfly(args, { folder: here });
    assert.equal(code, exit.unreachable);
    const [line = "", hint = ""] = stderr.split("\n").filter((each) => !each.startsWith("{"));
    assert.equal(
      line,
      "mayfly: provider lab cannot be opened: sh ended with status 3: no key here",
    );
    assert.match(hint, /→ `mayfly doctor` tests/);
    assert.doesNotMatch(stderr, /bug in Mayfly/);
  });

  it("tells of a pool whose machines are larger than any there can be", async () => {
    const here = join(folder, "large");
    await mkdir(here);
    const pools = "{ big: { provider: host, size: 512cpu1gb } }";
    await writeFile(join(here, "mayfly.yaml"), `pools: ${pools}\n`);
    const args = ["up", "--listen", ":0", "--state", join(here, "state")];
    const running = new Running(args, { folder: here });
    await running.printed("stderr", /no job will run in this pool: 512 cpu asked, \d+ at most/);
    running.child.kill("SIGTERM");
    assert.equal((await running.ended).code, 0);
  });

  it("finds a job again that it left running when it was killed", async () => {
    const state = join(folder, "killed");
    const start = () =>
      new Running(["up", "--json", "--state", state, "--listen", ":0"], { folder });
    const first = start();
    const asked = { MAYFLY_SERVER: await urlOf(first), MAYFLY_STATE: state };
    const script = "echo before; until [ -e go ]; do sleep 0.1; done; echo after; pwd";
    const args = ["submit", "--no-repo", "--", "sh", "-c", `echo $PWD; ${script}`];
    const id = (await ask(args, { environment: asked })).stdout.trim();
    const following = new Running(["logs", "-f", id], { environment: asked });
    await following.printed("stdout", /before\n/);
    first.child.kill("SIGKILL");
    await first.ended;
    following.child.kill();

    const second = start();
    const again = { MAYFLY_SERVER: await urlOf(second), MAYFLY_STATE: state };
    const work = following.stdout.split("\n")[0] ?? "";
    await writeFile(join(work, "go"), "");
    const { code, stdout } = await ask(["logs", "-f", id], { environment: again });
    assert.equal(code, 0);
    assert.match(stdout, /before\nafter\n/);
    const { jobs } = JSON.parse((await ask(["jobs", "--json"], { environment: again })).stdout) as {
      jobs: JobView[];
    };
    assert.equal(jobs.find((job) => job.id === id)?.outcome, "success");
    second.child.kill("SIGTERM");
    assert.equal((await second.ended).code, 0);
  });
});

suite("the example", () => {
  it("of an installed Mayfly is a small repository, and is told to be", async () => {
    // The command without a checkout around it.
    const installed = join(folder, "installed");
    await cp(join(root, "src"), join(installed, "src"), { recursive: true });
    await cp(join(root, "package.json"), join(installed, "package.json"));
    await symlink(join(root, "node_modules"), join(installed, "node_modules"));
    const main = join(installed, "src", "cli", "main.ts");
    const own = { XDG_STATE_HOME: join(folder, "xdg"), MAYFLY_STATE: "" };
    const start = (...more: string[]) =>
      new Running(["up", "--listen", ":0", ...more], { folder, environment: own, main });

    const running = start("--example");
    await running.printed("stderr", /[✔✘].*\n.*\n/);
    running.child.kill("SIGTERM");
    const { code, stdout, stderr } = await running.ended;
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^state +${join(folder, "xdg", "mayfly")}$`, "m"));
    assert.match(stderr, /^example {2}a small built-in repository$/m);
    assert.match(stderr, /not Mayfly's own tests, for Mayfly is installed without its tests/);
    assert.match(stderr, /^ +http:\/\/127\.0\.0\.1:\d+\/jobs\/native-\w+$/m);
    assert.match(stderr, /✔ native-\w+ succeeded in .*\n +1 passed, 0 failed$/m);
  });
});
