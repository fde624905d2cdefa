import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFile, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { list as listTar } from "tar";
import { pipeline } from "node:stream/promises";
import { MayflyError } from "../domain/errors.ts";
import { localTree } from "./local-tree.ts";
import { mayfly, sampleJob, scratchFolder, StubServer } from "./testing.ts";

function git(folder: string, ...args: string[]): string {
  const identity = [
    "-c",
    "user.name=A",
    "-c",
    "user.email=a@example.org",
    "-c",
    "init.defaultBranch=main",
  ];
  return execFileSync("git", ["-C", folder, ...identity, ...args], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  }).trim();
}

async function repository(folder: string): Promise<string> {
  const path = join(folder, "rocket");
  await mkdir(join(path, "sub"), { recursive: true });
  git(path, "init", "-q");
  await writeFile(join(path, "a.txt"), "one\n");
  await writeFile(join(path, "sub", "b.txt"), "two\n");
  await writeFile(join(path, ".gitattributes"), "sub export-ignore\n");
  git(path, "add", "-A");
  git(path, "commit", "-qm", "first");
  return path;
}

async function entries(folder: string, revision?: string): Promise<string[]> {
  const names: string[] = [];
  const parser = listTar({ onReadEntry: (entry) => names.push(entry.path) });
  await pipeline(await (await localTree(folder, revision)).archive(), parser);
  return names.sort();
}

async function refusal(path: string, revision?: string): Promise<string> {
  try {
    await localTree(path, revision);
  } catch (error) {
    assert.ok(error instanceof MayflyError, String(error));
    return `${error.where} ${error.code}: ${error.message} → ${error.hint}`;
  }
  return "it was taken";
}

test("the whole tree at HEAD, from a folder within too, releases' attributes or not", async (t) => {
  const path = await repository(await scratchFolder(t));
  const tree = await localTree(join(path, "sub"), undefined);
  assert.equal(tree.name, "rocket");
  assert.equal(tree.commit, git(path, "rev-parse", "HEAD"));
  assert.deepEqual(await tree.leftOut(), []);
  assert.deepEqual(await entries(path), [".gitattributes", "a.txt", "sub/", "sub/b.txt"]);
});

test("what is not committed is left out, and said to be", async (t) => {
  const path = await repository(await scratchFolder(t));
  await appendFile(join(path, "a.txt"), "more\n");
  await writeFile(join(path, "new.txt"), "");
  assert.deepEqual(await (await localTree(path, undefined)).leftOut(), ["2 changes not committed"]);
  assert.ok(!(await entries(path)).includes("new.txt"));

  git(path, "add", "-A");
  git(path, "commit", "-qm", "second");
  await writeFile(join(path, "newer.txt"), "");
  assert.deepEqual(
    await (await localTree(path, "HEAD~1")).leftOut(),
    [],
    "an older commit was asked for",
  );
  assert.ok(!(await entries(path, "HEAD~1")).includes("new.txt"));
});

test("linked worktrees, bare repositories and tags", async (t) => {
  const folder = await scratchFolder(t);
  const path = await repository(folder);
  git(path, "tag", "-a", "v1", "-m", "v1");
  git(path, "worktree", "add", "-q", join(folder, "linked"), "v1");
  git(folder, "clone", "-q", "--bare", path, join(folder, "bare.git"));
  for (const name of ["linked", "bare.git"]) {
    assert.equal((await entries(join(folder, name), "v1")).length, 4, name);
  }
});

test("what a hook's variables say does not count", async (t) => {
  const path = await repository(await scratchFolder(t));
  process.env["GIT_DIR"] = "/nonexistent";
  t.after(() => delete process.env["GIT_DIR"]);
  assert.equal((await localTree(path, undefined)).name, "rocket");
});

test("no temporary folder stays, also when nobody reads to the end", async (t) => {
  const folder = await scratchFolder(t);
  const path = await repository(folder);
  // A place of its own: other tests make archives at the same time.
  const { TMPDIR } = process.env;
  process.env["TMPDIR"] = join(folder, "tmp");
  t.after(() => {
    if (TMPDIR === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = TMPDIR;
  });
  await mkdir(tmpdir());
  const stream = await (await localTree(path, undefined)).archive();
  stream.destroy();
  await new Promise((resolve) => stream.once("close", resolve));
  await entries(path);
  const deadline = Date.now() + 60_000;
  while ((await readdir(tmpdir())).length > 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.deepEqual(await readdir(tmpdir()), []);
});

test("a command leaves nothing behind, whether its tree was taken or not", async (t) => {
  const folder = await scratchFolder(t);
  const path = await repository(folder);
  const TMPDIR = join(folder, "tmp");
  await mkdir(TMPDIR);
  const stub = await StubServer.start();
  t.after(() => stub.stop());
  stub.answers.set("POST /v1/trees", { sha256: "0".repeat(64), bytes: 1 });
  stub.answers.set("POST /v1/jobs", sampleJob({ state: "waiting", outcome: null }));
  const args = ["submit", "--repo", path, "--", "true"];
  const sent = await mayfly(args, { environment: { ...stub.environment, TMPDIR } });
  assert.equal(sent.code, 0, sent.stderr);
  assert.deepEqual(await readdir(TMPDIR), []);
  const nobody = { ...stub.environment, MAYFLY_SERVER: "http://127.0.0.1:9", TMPDIR };
  assert.equal((await mayfly(args, { environment: nobody })).code, 69);
  assert.deepEqual(await readdir(TMPDIR), []);
});

test("refusals say what to do", async (t) => {
  const folder = await scratchFolder(t);
  const path = await repository(folder);
  await mkdir(join(folder, "empty"));
  await mkdir(join(folder, "unborn"));
  git(join(folder, "unborn"), "init", "-q");
  git(path, "commit", "-q", "--allow-empty", "-m", "second");
  git(folder, "clone", "-q", "--depth=1", `file://${path}`, join(folder, "shallow"));
  await symlink("nowhere", join(folder, "dangling"));

  assert.match(await refusal(join(folder, "none")), /^--repo not_found: there is no folder/);
  assert.match(await refusal(join(folder, "dangling")), /^--repo not_found: there is no folder/);
  assert.match(await refusal(join(path, "a.txt")), /it is a file, and no folder.*--tarball/);
  assert.match(await refusal(join(folder, "empty")), /is not a git repository → .*--tarball -/);
  for (const revision of [undefined, "HEAD"]) {
    assert.match(
      await refusal(join(folder, "unborn"), revision),
      /has no commit yet → Commit what/,
    );
  }
  assert.match(
    await refusal(path, "nope"),
    /^--rev not_found: .* has no revision "nope" → .*git fetch$/,
  );
  const old = git(path, "rev-parse", "HEAD~1");
  assert.match(await refusal(join(folder, "shallow"), old), /shallow clone.*git fetch --unshallow/);
});

test("a revision is never an option", async (t) => {
  const path = await repository(await scratchFolder(t));
  for (const revision of ["--all", "-h", "--output=/tmp/x", "a b", "..", "x".repeat(9000), ""]) {
    assert.match(
      await refusal(path, revision),
      /has no revision|no git|could not|invalid/,
      revision,
    );
  }
});
