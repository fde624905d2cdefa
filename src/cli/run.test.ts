import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { eventually } from "../../test/guests.ts";
import { baseImage } from "../providers/podman/image.ts";
import { podmanForTests } from "../providers/podman/testing.ts";
import { Running, type Ended } from "./testing.ts";

const { skip } = await podmanForTests();
const needsPodman = { skip };
const hasScript = spawnSync("script", ["--version"]).status === 0;
const main = join(import.meta.dirname, "main.ts");

let scratch = "";
let state = "";
before(() => {
  scratch = mkdtempSync(join(tmpdir(), "mayfly-run-"));
  state = join(scratch, "state");
});
after(() => {
  assert.deepEqual(leftRuns(), [], "a run left something behind");
  rmSync(scratch, { recursive: true, force: true });
});

function leftRuns(): string[] {
  return existsSync(join(state, "runs")) ? readdirSync(join(state, "runs")) : [];
}

function git(folder: string, ...args: string[]): string {
  const identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
  return execFileSync("git", ["-C", folder, ...identity, ...args], { encoding: "utf8" }).trim();
}

let count = 0;

/** A repository with these files, committed. */
function repository(files: Readonly<Record<string, string>>): string {
  const folder = join(scratch, `repo-${(count += 1)}`);
  mkdirSync(folder);
  git(folder, "init", "-q", "-b", "main");
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, ".."), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  git(folder, "add", "-A");
  git(folder, "commit", "-q", "--allow-empty", "-m", "first");
  return folder;
}

function start(folder: string, args: readonly string[], environment = {}): Running {
  return new Running(["run", ...args], {
    folder,
    environment: { MAYFLY_STATE: state, ...environment },
  });
}

function run(folder: string, args: readonly string[], environment = {}): Promise<Ended> {
  return start(folder, args, environment).ended;
}

const onHost = ["--provider", "host"];
const inPodman = ["--provider", "podman"];

describe("a command, on this host's own processes", () => {
  test("its streams stay apart and in order, its status is ours", async () => {
    const script = "echo a; echo b >&2; sleep 0.1; printf c; exit 7";
    const ended = await run(repository({ f: "" }), [...onHost, "--", "sh", "-c", script]);
    assert.equal(ended.stdout, "a\nc");
    assert.match(ended.stderr, /^b$/m);
    assert.match(ended.stderr, /ended with status 7/);
    assert.equal(ended.code, 7);
  });

  test("it runs on the tree of HEAD, or another, and says what was left out", async () => {
    const folder = repository({ f: "one\n" });
    writeFileSync(join(folder, "f"), "two\n");
    git(folder, "commit", "-qam", "second");
    writeFileSync(join(folder, "f"), "dirty\n");
    const head = await run(folder, [...onHost, "--", "cat", "f"]);
    assert.equal(head.stdout, "two\n");
    assert.match(head.stderr, /as committed; left out: 1 change not committed/);
    const before = await run(folder, [...onHost, "--rev", "HEAD~1", "--", "cat", "f"]);
    assert.equal(before.stdout, "one\n");
  });

  test("large files that come as pointers are told", async () => {
    const folder = repository({ ".gitattributes": "*.bin filter=lfs -text\n", "a.bin": "x" });
    const plain = { GIT_CONFIG_NOSYSTEM: "1", HOME: scratch };
    const without = await run(folder, [...onHost, "--", "true"], plain);
    assert.match(without.stderr, /left out: what Git LFS holds/);
    git(folder, "config", "filter.lfs.smudge", "cat");
    const set = await run(folder, [...onHost, "--", "true"], plain);
    assert.equal(set.code, 0, set.stderr);
    assert.doesNotMatch(set.stderr, /left out/);
  });

  test("only declared variables reach it, from .env too", async () => {
    const folder = repository({ ".gitignore": ".env\n" });
    writeFileSync(join(folder, ".env"), "MAYFLY_ENV=FIRST\nFIRST='1 one'\nSECOND=2\nTHIRD=3\n");
    const args = [...onHost, "--env", "SECOND", "--env", "OWN=x=y", "--env", "HERE", "--", "env"];
    const { stdout } = await run(folder, args, { HERE: "here", HIDDEN: "hidden" });
    for (const line of ["FIRST=1 one", "SECOND=2", "OWN=x=y", "HERE=here", "CI=true"]) {
      assert.ok(stdout.split("\n").includes(line), line);
    }
    assert.doesNotMatch(stdout, /THIRD|HIDDEN|MAYFLY_ENV|MAYFLY_STATE/);
    const absent = await run(folder, [...onHost, "--env", "ABSENT", "--", "env"]);
    assert.match(absent.stderr, /"ABSENT" has a value neither here nor in .env/);
    assert.equal(absent.code, 64);
  });

  test("its settings come from .env", async () => {
    const folder = repository({});
    writeFileSync(join(folder, ".env"), "MAYFLY_PROVIDER=host\nMAYFLY_TIMEOUT=1s\n");
    const slow = await run(folder, ["--", "sleep", "30"]);
    assert.match(slow.stderr, /by host/);
    assert.equal(slow.code, 124);
  });

  test("files are brought out, and none from elsewhere", async () => {
    const folder = repository({});
    const script = "mkdir -p d/e; echo x >d/e/x; ln -s /etc/passwd d/passwd; ln -s e/x d/y";
    const args = [...onHost, "--artifact", "d/**", "--artifacts", "out"];
    const ended = await run(folder, [...args, "--", "sh", "-c", script]);
    assert.equal(ended.code, 0, ended.stderr);
    assert.match(ended.stderr, /artifact d\/passwd is left behind: it leads out of/);
    assert.deepEqual(readdirSync(join(folder, "out", "d")).sort(), ["e", "y"]);
    assert.equal(readFileSync(join(folder, "out", "d", "y"), "utf8"), "x\n");
  });

  test("a flood comes whole", async () => {
    const script = "head -c 20000000 /dev/zero; head -c 1000 /dev/zero >&2";
    const running = start(repository({}), [...onHost, "--", "sh", "-c", script]);
    const { stdout, code } = await running.ended;
    assert.deepEqual([code, stdout.length], [0, 20_000_000]);
  });

  test("a reader that goes away ends it", async () => {
    const folder = repository({});
    const node = process.execPath;
    const words = `"${node}" "${main}" run --provider host -- yes | head -n 1`;
    const environment = { PATH: process.env["PATH"], HOME: scratch, MAYFLY_STATE: state };
    const { stdout, status } = spawnSync("sh", ["-c", words], {
      cwd: folder,
      env: environment,
      encoding: "utf8",
      timeout: 120_000,
    });
    assert.deepEqual([stdout, status], ["y\n", 0]);
    assert.deepEqual(leftRuns(), []);
  });

  test("several at once do not meet", async () => {
    const folder = repository({});
    const words = ["one", "two", "three"];
    const all = await Promise.all(
      words.map((word) => run(folder, [...onHost, "--", "sh", "-c", `pwd; echo ${word}`])),
    );
    const outputs = all.map(({ stdout }) => stdout.split("\n"));
    assert.deepEqual(
      outputs.map(([, word]) => word),
      words,
    );
    assert.equal(new Set(outputs.map(([place]) => place)).size, 3);
  });

  test("what failed stays when asked to, until it is ended", async () => {
    const folder = repository({});
    const script = "echo kept >left; exit 4";
    const failed = await run(folder, [...onHost, "--keep-on-fail", "--", "sh", "-c", script]);
    assert.equal(failed.code, 4);
    const [, place = ""] = /its files: (\S+)/.exec(failed.stderr) ?? [];
    assert.equal(readFileSync(join(place, "left"), "utf8"), "kept\n");
    // Another run leaves it alone.
    await run(folder, [...onHost, "--", "true"]);
    assert.ok(existsSync(place));
    const [, machine = ""] = /mayfly run --end (\S+)/.exec(failed.stderr) ?? [];
    const ended = await run(folder, ["--end", machine]);
    assert.equal(ended.code, 0, ended.stderr);
    assert.equal(existsSync(place), false);
    assert.equal((await run(folder, ["--end", machine])).code, 66);
    const good = await run(folder, [...onHost, "--keep-on-fail", "--", "true"]);
    assert.doesNotMatch(good.stderr, /stays/);
  });

  test("--json tells the end, and the output goes beside", async () => {
    const folder = repository({});
    const ended = await run(folder, [...onHost, "--json", "--", "sh", "-c", "echo out; exit 2"]);
    const told = JSON.parse(ended.stdout) as { exitCode: number; runs: { provider: string }[] };
    assert.deepEqual([told.exitCode, told.runs[0]?.provider], [2, "host"]);
    assert.match(ended.stderr, /^out$/m);
  });
});

describe("to be ended", () => {
  const patient = 'trap "echo ending; exit 9" TERM; echo ready; while :; do sleep 0.1; done';
  const stubborn = 'trap "echo no" TERM; echo ready; while :; do sleep 0.1; done';

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`${signal} ends the test first, and its last words are shown`, async () => {
      const running = start(repository({}), [...onHost, "--", "sh", "-c", patient]);
      await running.printed("stdout", /ready/);
      running.child.kill(signal);
      const { code, stdout } = await running.ended;
      assert.deepEqual([code, stdout], [130, "ready\nending\n"]);
      assert.deepEqual(leftRuns(), []);
    });
  }

  test("a second signal ends all at once", async () => {
    const running = start(repository({}), [...onHost, "--", "sh", "-c", stubborn]);
    await running.printed("stdout", /ready/);
    running.child.kill("SIGINT");
    await running.printed("stdout", /no/);
    running.child.kill("SIGINT");
    const { code, stderr } = await running.ended;
    assert.equal(code, 130);
    assert.match(stderr, /interrupted twice/);
    assert.deepEqual(leftRuns(), []);
  });

  const onTerminal = { skip: hasScript ? false : "needs script(1)" };
  test("Ctrl-C at a terminal does the same", onTerminal, async (t) => {
    const folder = repository({ "t.sh": patient });
    const log = join(scratch, "typescript");
    const words = `"${process.execPath}" "${main}" run --provider host -- sh t.sh`;
    const child = execScript(t, words, folder, log);
    await eventually(() => (/ready/.test(readText(log)) ? true : null));
    child.type("\u0003");
    assert.equal(await child.over, 130);
    const shown = readText(log);
    assert.match(shown, /ending it; once more to end it at once/);
    assert.match(shown, /\nending\r?\n/);
    assert.deepEqual(leftRuns(), []);
  });

  test("a shell in a fresh machine, and one in a machine that stayed", onTerminal, async (t) => {
    const folder = repository({ f: "hello\n" });
    const log = join(scratch, "shell-fresh");
    const self = `"${process.execPath}" "${main}" run`;
    const fresh = execScript(t, `${self} --provider host --shell`, folder, log);
    await eventually(() => (/three times/.test(readText(log)) ? true : null));
    fresh.type("cat f; exit 5\r");
    assert.equal(await fresh.over, 5);
    assert.match(readText(log), /hello\r*\n/);
    assert.deepEqual(leftRuns(), []);

    const script = "echo left >g; exit 4";
    const failed = await run(folder, [...onHost, "--keep-on-fail", "--", "sh", "-c", script]);
    const [, machine = ""] = /mayfly run --enter (\S+)/.exec(failed.stderr) ?? [];
    for (const status of [6, 7]) {
      // One of its own: what the last one showed would be taken for this one's.
      const own = join(scratch, `shell-${status}`);
      const again = execScript(t, `${self} --enter ${machine}`, folder, own);
      await eventually(() => (/which stays/.test(readText(own)) ? true : null));
      again.type(`cat g; exit ${status}\r`);
      assert.equal(await again.over, status);
      assert.match(readText(own), /left\r*\n/);
    }
    assert.equal((await run(folder, ["--end", machine])).code, 0);
    assert.deepEqual(leftRuns(), []);
  });

  test("what a killed run left goes with the next", needsPodman, async () => {
    const folder = repository({});
    const running = start(folder, [...inPodman, "--", "sh", "-c", "echo ready; sleep 300"]);
    await running.printed("stdout", /ready/);
    running.child.kill("SIGKILL");
    await running.ended;
    const [machine = ""] = leftRuns();
    const isThere = (): boolean => podman("container", "exists", machine) === 0;
    assert.equal(isThere(), true);
    const next = await run(folder, [...inPodman, "--", "true"]);
    assert.equal(next.code, 0, next.stderr);
    assert.match(next.stderr, new RegExp(`removed ${machine}`));
    assert.equal(isThere(), false);
  });

  test("a machine that vanishes is told from a test that failed", needsPodman, async () => {
    const running = start(repository({}), [...inPodman, "--", "sh", "-c", "echo ready; sleep 300"]);
    await running.printed("stdout", /ready/);
    podman("rm", "--force", "--time=0", ...leftRuns());
    const { code, stderr } = await running.ended;
    assert.match(stderr, /was lost with its machine/);
    assert.equal(code, 75);
  });
});

function podman(...args: string[]): number | null {
  const conf = join(state, "providers", "podman", "containers.conf");
  const env = { ...process.env, CONTAINERS_CONF: conf };
  return spawnSync("podman", args, { env, stdio: "ignore" }).status;
}

function readText(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

interface OnTerminal {
  readonly type: (keys: string) => void;
  readonly over: Promise<number>;
}

/** Runs a command line on a terminal of its own, by script(1). */
function execScript(t: TestContext, words: string, folder: string, log: string): OnTerminal {
  const env = { PATH: process.env["PATH"], HOME: scratch, MAYFLY_STATE: state, TERM: "xterm" };
  const child = spawn("script", ["-qefc", words, log], {
    cwd: folder,
    env,
    stdio: ["pipe", "ignore", "ignore"],
  });
  // One that a failed test left would keep the file from ending.
  t.after(() => child.kill("SIGKILL"));
  return {
    type: (keys) => void child.stdin?.write(keys),
    over: new Promise((resolve) => child.once("close", (code) => resolve(code ?? -1))),
  };
}

const mkfile = `base-image:V:
	echo base
prepare-runtime:V: base-image
	id -u; touch /etc/prepared
test:V:
	cat f /etc/prepared
	echo art > /var/run/ci/artifacts/a.txt
	ln -s /etc/passwd /var/run/ci/artifacts/stolen
	exit 3
/var/run/ci/artifacts/b.txt:
	echo b > $target
/var/run/ci/artifacts/%.gen:
	echo $stem > $target
post-test:V:
	echo post; ls /var/run/ci/artifacts
`;

describe("targets by mk, in a container", needsPodman, () => {
  test("all that the repository has, in order", async () => {
    const folder = repository({ mkfile, f: "hello\n" });
    const ended = await run(folder, [...inPodman, "--artifact", "own.gen", "--artifacts", "out"]);
    const { stdout, stderr } = ended;
    assert.equal(ended.code, 3, stderr);
    const order = [...stdout.matchAll(/^(base|0|hello|post)$/gm)].map(([word]) => word);
    assert.deepEqual(order, ["base", "0", "hello", "post"]);
    assert.match(stdout, /post\na\.txt\nb\.txt\nown\.gen/);
    assert.match(stderr, /artifact stolen is left behind/);
    const titles = [...stderr.matchAll(/^mayfly: (.*) …$/gm)].map(([, title]) => title);
    assert.deepEqual(titles, ["prepare-runtime", "test", "artifacts", "post-test"]);
    assert.deepEqual(readdirSync(join(folder, "out")).sort(), ["a.txt", "b.txt", "own.gen"]);
  });

  test("the example of the manual", async () => {
    const example = join(import.meta.dirname, "..", "..", "examples", "mkfile");
    const folder = repository({ mkfile: readFileSync(example, "utf8") });
    const ended = await run(folder, inPodman);
    assert.equal(ended.code, 0, ended.stderr);
    const sorted = readFileSync(join(folder, "mayfly-artifacts", "sorted.txt"), "utf8");
    assert.match(sorted, /^10\n9\n/);
    // What it made is no change of the repository's.
    assert.equal(git(folder, "status", "--porcelain"), "");
  });

  test("what a step starts is there for the next", async () => {
    const file =
      "prepare-runtime:V:\n\t(while :; do date >/tmp/tick; sleep 0.1; done) >/dev/null 2>&1 &\n" +
      "\tuntil [ -s /tmp/tick ]; do sleep 0.1; done\n" +
      "test:V:\n\trm /tmp/tick; until [ -s /tmp/tick ]; do sleep 0.1; done; echo alive\n";
    const ended = await run(repository({ mkfile: file }), [...inPodman, "--timeout", "4m"]);
    assert.equal(ended.code, 0, ended.stderr);
    assert.match(ended.stdout, /^alive$/m);
  });

  test("a target that must come before ends it with its status", async () => {
    const file =
      "prepare-runtime:V:\n\texit 5\ntest:V:\n\techo tested\npost-test:V:\n\techo post\n";
    const ended = await run(repository({ mkfile: file }), inPodman);
    assert.equal(ended.code, 5);
    assert.doesNotMatch(ended.stdout, /^(tested|post)$/m);
  });

  test("a container's image is named where none can run", async () => {
    const file = "CONTAINERIMAGE=localhost/none:1\ntest:V:\n\techo in $CONTAINERIMAGE\n";
    const ended = await run(repository({ mkfile: file }), inPodman);
    assert.equal(ended.code, 0, ended.stderr);
    assert.match(
      ended.stderr,
      /runs no containers: test runs in the machine, not in localhost\/none:1/,
    );
    assert.match(ended.stdout, /^in localhost\/none:1$/m);
  });

  const broken: readonly (readonly [string, Record<string, string>, RegExp])[] = [
    // A folder of its name would be "up to date" to mk.
    ["no test", { mkfile: "all:V:\n\ttrue\n", "test/x": "" }, /mkfile: it has no target `test`/],
    ["no syntax", { mkfile: "test V:\n\ttrue\n:::\n" }, /mk cannot use it: mkfile:3: syntax error/],
    ["a rule that lacks", { mkfile: "test:V: lost\n\ttrue\n" }, /don't know how to make 'lost'/],
    [
      "a name that is none",
      { mkfile: "CONTAINERIMAGE=--privileged\ntest:V:\n\ttrue\n" },
      /CONTAINERIMAGE: "--privileged" is no name of an image/,
    ],
  ];
  for (const [name, files, words] of broken) {
    test(`a mkfile with ${name} is refused in words`, async () => {
      const ended = await run(repository(files), inPodman);
      assert.match(ended.stderr, words);
      assert.equal(ended.code, 64);
    });
  }
});

describe("targets by mk, on this host", needsPodman, () => {
  let environment = {};
  before(async () => {
    // It leaves the settings under which podman works here.
    await run(repository({}), [...inPodman, "--", "true"]);
    // 9base may not be installed here; its mk is in the image, and needs only libc.
    const bin = join(scratch, "bin");
    mkdirSync(bin);
    const words = ["run", "--rm", "--network=none", baseImage, "cat", "/usr/lib/plan9/bin/mk"];
    const ulimits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
    const conf = join(state, "providers", "podman", "containers.conf");
    const mk = spawnSync("podman", [...words.slice(0, 3), ...ulimits, ...words.slice(3)], {
      env: { ...process.env, CONTAINERS_CONF: conf },
      maxBuffer: 10_000_000,
    });
    assert.equal(mk.status, 0, mk.stderr.toString());
    writeFileSync(join(bin, "mk"), mk.stdout);
    chmodSync(join(bin, "mk"), 0o755);
    writeFileSync(join(bin, "here"), "");
    environment = { PATH: `${bin}:${process.env["PATH"]}` };
  });

  const file =
    "test:V:\n\techo $PLACE > /var/run/ci/artifacts/x\n\tsleep 0.5\n\tcat /var/run/ci/artifacts/x\n";

  test("two at once each have a /var/run/ci of their own, and leave none", async (t) => {
    const folder = repository({ mkfile: file });
    const wasThere = existsSync("/run/ci");
    const all = await Promise.all(
      ["one", "two"].map((place) =>
        run(folder, [...onHost, "--env", `PLACE=${place}`, "--artifacts", place], environment),
      ),
    );
    if (/allows no mount namespace/.test(all[0]?.stderr ?? "")) {
      return t.skip("this host allows no mount namespace");
    }
    for (const [index, place] of ["one", "two"].entries()) {
      assert.equal(all[index]?.code, 0, all[index]?.stderr);
      assert.equal(readFileSync(join(folder, place, "x"), "utf8"), `${place}\n`);
    }
    assert.equal(existsSync("/run/ci"), wasThere);
  });

  test("an image that cannot be had says so", async () => {
    const text = "CONTAINERIMAGE=localhost/surely-not-there:1\ntest:V:\n\ttrue\n";
    const conf = join(state, "providers", "podman", "containers.conf");
    const args = [...onHost, "--env", `CONTAINERS_CONF=${conf}`];
    const ended = await run(repository({ mkfile: text }), args, environment);
    assert.match(ended.stderr, /CONTAINERIMAGE: "localhost\/surely-not-there:1" cannot be had/);
    assert.equal(ended.code, 69);
  });

  test("test runs in the container that CONTAINERIMAGE names", async () => {
    const text =
      `base-image:V:\n\techo ${baseImage} > /var/run/ci/env/CONTAINERIMAGE\n` +
      `test:V:\n\tcat f; [ -e ${scratch}/bin/here ] || echo inside\n` +
      "\techo $OWN >/var/run/ci/artifacts/x\n\texit 6\n";
    const folder = repository({ mkfile: text, f: "hello\n" });
    const conf = join(scratch, "containers.conf");
    const known = join(state, "providers", "podman", "containers.conf");
    const limits = 'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\nnetns = "none"\n';
    writeFileSync(
      conf,
      readFileSync(known, "utf8").replace("[containers]\n", `[containers]\n${limits}`),
    );
    const declared = ["--env", `CONTAINERS_CONF=${conf}`, "--env", "OWN=mine"];
    const ended = await run(folder, [...onHost, ...declared, "--artifacts", "out"], environment);
    assert.equal(ended.code, 6, ended.stderr);
    assert.match(ended.stdout, /^hello\ninside$/m);
    assert.equal(readFileSync(join(folder, "out", "x"), "utf8"), "mine\n");
  });
});

describe("a zeroCI.yaml", needsPodman, () => {
  const report =
    '<testsuite><testcase classname="S" name="good" time="0.1"/>' +
    '<testcase classname="S" name="bad"><failure message="1 is not 2"/></testcase></testsuite>';

  test("each step with its report; one that fails does not keep the next", async () => {
    const text = `
jobs:
  - name: first
    install: "echo installed; pwd"
    script:
      - { name: Reported, cmd: "cp report.xml /test.xml; exit 2" }
      - { name: After, cmd: "test ! -e /test.xml && echo after" }
      - { name: Build, cmd: "echo program > built" }
    bin_path: built
  - name: second
    script: [{ name: Other, cmd: "ls /zeroci/bin; echo other" }]
`;
    const folder = repository({ "zeroCI.yaml": text, "report.xml": report });
    const ended = await run(folder, [...inPodman, "--artifacts", "out"]);
    assert.equal(ended.code, 2, ended.stderr);
    assert.match(
      ended.stdout,
      /installed\n\/zeroci\/code\/vcs_repos\/local\/repo-\d+\nafter\nother\n/,
    );
    assert.match(ended.stderr, /✔ S: good 100 ms\n {2}✘ S: bad\n {4}1 is not 2\n/);
    assert.match(ended.stderr, /2 tests: 1 passed, 1 failed/);
    assert.equal(readFileSync(join(folder, "out", "built"), "utf8"), "program\n");
  });

  test("an install that fails ends all", async () => {
    const text =
      "jobs:\n" +
      "  - { name: a, install: exit 3, script: [echo one] }\n" +
      "  - { name: b, script: [echo two] }\n";
    const ended = await run(repository({ "zeroCI.yaml": text }), inPodman);
    assert.equal(ended.code, 3);
    assert.equal(ended.stdout, "");
  });

  test("not on this host itself", async () => {
    const ended = await run(repository({ "zeroCI.yaml": "script: [true]\n" }), onHost);
    assert.match(ended.stderr, /zeroCI.yaml: its steps write to \/ of their machine/);
    assert.equal(ended.code, 64);
  });

  test("an image that cannot be had says so", async () => {
    const text = "prerequisites: { imageName: localhost/surely-not-there }\nscript: [a]\n";
    const ended = await run(repository({ "zeroCI.yaml": text }), inPodman);
    assert.match(ended.stderr, /could not be made: .*surely-not-there/);
    assert.notEqual(ended.code, 0);
  });
});

describe("what cannot be run is refused in words", () => {
  const none = {};
  const cases: readonly (readonly [
    string,
    () => string,
    readonly string[],
    RegExp,
    number,
    Record<string, string>?,
  ])[] = [
    ["no repository", () => scratch, ["--", "true"], /is not a git repository\n.*git init/, 64],
    ["nothing to run", () => repository({}), onHost, /neither a mkfile nor a zeroCI.yaml/, 64],
    [
      "a revision that is not there",
      () => repository({}),
      ["--rev", "gone", "--", "true"],
      /--rev: .*no revision "gone"/,
      66,
    ],
    [
      "a revision that is an option",
      () => repository({}),
      ["--rev=--upload-pack=touch /tmp/x", "--", "true"],
      /no revision "--upload-pack=touch \/tmp\/x"/,
      66,
    ],
    [
      "a broken zeroCI.yaml",
      () => repository({ "zeroCI.yaml": "script:\n  - nam: x\n" }),
      inPodman,
      /zeroCI.yaml:2:10: unknown key "nam"\n.*Did you mean "name"/,
      64,
    ],
    [
      "no such provider",
      () => repository({}),
      ["--provider", "podmann", "--", "true"],
      /--provider: there is no provider "podmann"\n.*Did you mean "podman"/,
      64,
    ],
    [
      "a provider that does not work",
      () => repository({}),
      [...inPodman, "--", "true"],
      /podman does not work here: .*not installed.*\n.*mayfly doctor/,
      69,
      { PATH: gitOnly() },
    ],
    [
      "no provider at all",
      () => repository({}),
      ["--", "true"],
      /no provider works here: .*podman: .*host: .*\n.*mayfly doctor/,
      69,
      { PATH: gitOnly() },
    ],
    ["too much", () => repository({}), ["--memory", "9000gb", "--", "true"], /largest machine/, 64],
    ["no amount", () => repository({}), ["--memory", "much", "--", "true"], /write it like/i, 64],
    ["no memory", () => repository({}), ["--memory", "0gb", "--", "true"], /no amount of mem/, 64],
    [
      "a file where artifacts go",
      () => repository({ out: "" }),
      ["--artifacts", "out", "--", "true"],
      /--artifacts: .*\/out is no folder/,
      64,
    ],
    [
      "nothing to run but a script",
      () => repository({ "package.json": "{}" }),
      onHost,
      /mayfly run -- npm test/,
      64,
    ],
    ["no time", () => repository({}), ["--timeout", "soon", "--", "true"], /no duration/, 64],
    ["a shell in a pipe", () => repository({}), [...onHost, "--shell"], /needs a terminal/, 64],
    ["a way into nothing", () => repository({}), ["--enter", "x"], /no run has a machine "x"/, 66],
    ["a path outside", () => repository({}), ["--artifact", "../x", "--", "true"], /no path/, 64],
  ];
  for (const [name, folder, args, words, code, environment = none] of cases) {
    test(name, async () => {
      const all = args.includes("--provider") ? args : ["--provider", "host", ...args];
      const isAny = name === "no provider at all" || args.some((word) => word.startsWith("--rev"));
      const ended = await run(folder(), isAny ? args : all, environment);
      assert.match(ended.stderr, words);
      assert.equal(ended.code, code);
      assert.deepEqual(leftRuns(), []);
    });
  }

  test("a repository without a commit", async () => {
    const folder = join(scratch, "unborn");
    mkdirSync(folder);
    git(folder, "init", "-q");
    const ended = await run(folder, [...onHost, "--", "true"]);
    assert.match(ended.stderr, /has no commit yet\n.*git commit/);
    assert.equal(ended.code, 66);
  });
});

/** A PATH on which there is git and nothing else. */
function gitOnly(): string {
  const bin = mkdtempSync(join(tmpdir(), "mayfly-path-"));
  symlinkSync(execFileSync("which", ["git"], { encoding: "utf8" }).trim(), join(bin, "git"));
  after(() => rmSync(bin, { recursive: true }));
  return bin;
}
