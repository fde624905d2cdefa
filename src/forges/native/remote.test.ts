import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { createRemote, type Remote } from "./remote.ts";

let root = "";
let work = "";
let calls = "";
let mayfly: readonly [string, ...string[]];
let remote: Remote;

before(async () => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "mayfly-remote-")));
  work = join(root, "work tree");
  calls = join(root, "calls");
  mkdirSync(work);
  // Stands in for the command line: notes its words, one a line, and an empty one after each call.
  const stub = join(root, "it's mayfly");
  writeFileSync(
    stub,
    `#!/bin/sh\n[ -z "$GIT_DIR" ] || echo "GIT_DIR is set" >>'${calls}'\n` +
      `printf '%s\\n' "$@" '' >>'${calls}'\necho "native-abc waits"\n[ ! -e '${root}/fail' ]\n`,
    { mode: 0o755 },
  );
  mayfly = ["/usr/bin/env", stub, "--own word"];
  remote = await createRemote({
    name: "rocket",
    stateFolder: join(root, "a state 'folder'"),
    mayfly,
    server: "http://127.0.0.1:8420",
  });
  git("init", "-q", "-b", "main");
  git("remote", "add", "mayfly", remote.path);
  writeFileSync(join(work, "file"), "x");
  git("add", "-A");
  git("commit", "-q", "-m", "x");
});

after(() => rmSync(root, { recursive: true, force: true }));

beforeEach(() => rmSync(calls, { force: true }));

function git(...args: string[]): { out: string; status: number | null } {
  const done = spawnSync("git", ["-C", work, ...args], {
    env: {
      PATH: process.env["PATH"],
      HOME: root,
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_AUTHOR_NAME: "a",
      GIT_AUTHOR_EMAIL: "a@example.com",
      GIT_COMMITTER_NAME: "a",
      GIT_COMMITTER_EMAIL: "a@example.com",
    },
    encoding: "utf8",
  });
  return { out: done.stdout + done.stderr, status: done.status };
}

function called(): string[][] {
  if (!existsSync(calls)) return [];
  return readFileSync(calls, "utf8")
    .split("\n\n")
    .filter((call) => call !== "")
    .map((call) => call.split("\n"));
}

function configure(...args: string[]): void {
  execFileSync("git", ["-C", remote.path, "config", ...args]);
}

describe("a push", () => {
  test("of a branch submits its head, and tells where to look", () => {
    const { out, status } = git("push", "-q", "mayfly", "main");
    assert.equal(status, 0, out);
    const head = git("rev-parse", "HEAD").out.trim();
    assert.deepEqual(called(), [
      [
        "--own word",
        "submit",
        "--server",
        "http://127.0.0.1:8420",
        "--repo",
        remote.path,
        "--rev",
        head,
        "--name=main",
      ],
    ]);
    assert.match(out, /native-abc waits/);
  });

  test("runs the configured command in the configured pool", () => {
    configure("mayfly.command", `make "a b" && echo '$HOME'`);
    configure("mayfly.pool", "small");
    git("push", "-q", "mayfly", "main:other");
    configure("--unset", "mayfly.command");
    configure("--unset", "mayfly.pool");
    assert.deepEqual(called()[0]?.slice(-6), [
      "--pool",
      "small",
      "--",
      "sh",
      "-c",
      `make "a b" && echo '$HOME'`,
    ]);
  });

  test("of a hostile name runs nothing", () => {
    const name = "$(touch${IFS}pwned);`touch${IFS}pwned`&'\"";
    const { status, out } = git("push", "-q", "mayfly", `main:refs/heads/${name}`);
    assert.equal(status, 0, out);
    assert.deepEqual(called()[0]?.at(-1), `--name=${name}`);
    assert.ok(out.includes(name));
    assert.equal(existsSync(join(remote.path, "pwned")), false);
  });

  test("of a tag, or that deletes, submits nothing", () => {
    git("tag", "v1");
    assert.equal(git("push", "-q", "mayfly", "v1").status, 0);
    git("push", "-q", "mayfly", "main:gone");
    rmSync(calls, { force: true });
    assert.equal(git("push", "-q", "mayfly", ":gone").status, 0);
    assert.deepEqual(called(), []);
  });

  test("of many branches submits the first twenty", () => {
    const names = Array.from({ length: 25 }, (_, index) => `main:many/${index}`);
    const { out, status } = git("push", "-q", "mayfly", ...names);
    assert.equal(status, 0);
    assert.equal(called().length, 20);
    assert.match(out, /only the first 20/);
  });

  test("is done though the manager is away", () => {
    writeFileSync(join(root, "fail"), "");
    const { out, status } = git("push", "-q", "mayfly", "main:lonely");
    rmSync(join(root, "fail"));
    assert.equal(status, 0);
    assert.match(out, /no job was submitted/);
    const again = /to try again: (.*)/.exec(out)?.[1] ?? "";
    execFileSync("sh", ["-c", again], { stdio: "ignore" });
    assert.deepEqual(called().at(-1)?.at(-1), "--name=lonely");
  });
});

describe("a remote", () => {
  test("made again keeps what was pushed", async () => {
    const again = await createRemote({
      name: "rocket",
      stateFolder: join(root, "a state 'folder'"),
      mayfly,
      server: "http://127.0.0.1:9999",
    });
    assert.deepEqual(again, { path: remote.path, isNew: false });
    assert.ok(readFileSync(join(remote.path, "hooks/post-receive"), "utf8").includes(":9999"));
    execFileSync("git", ["-C", remote.path, "rev-parse", "--verify", "-q", "main"]);
  });

  for (const name of ["", "../x", "a/b", "-x", ".x", "a..b", "x".repeat(65), "a b", "a\nb"]) {
    test(`named ${JSON.stringify(name.slice(0, 10))} is refused`, async () => {
      const options = { name, stateFolder: root, mayfly, server: "http://x" };
      await assert.rejects(createRemote(options), { code: "invalid" });
    });
  }
});
