import assert from "node:assert/strict";
import { mkdtemp, mkdir, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, test } from "node:test";
import { ArtifactFolder } from "./files.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "mayfly-run-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("files come to their places, and the last of a path wins", async () => {
  const artifacts = new ArtifactFolder(join(folder, "out"));
  await artifacts.keep("a/b.txt", Readable.from([Buffer.from("one")]));
  const { sha256, size } = await artifacts.keep("a/b.txt", Readable.from([Buffer.from("two!")]));
  assert.equal(await readFile(join(folder, "out", "a", "b.txt"), "utf8"), "two!");
  assert.equal(size, 4);
  assert.match(sha256, /^[0-9a-f]{64}$/);
  assert.deepEqual(await readdir(join(folder, "out")), ["a"]);
});

test("no folder is made where nothing comes", async () => {
  assert.equal(new ArtifactFolder(join(folder, "out")).kept.length, 0);
  assert.deepEqual(await readdir(folder), []);
});

test("a folder that nobody chose keeps out of the repository, and one that was is left as it is", async () => {
  for (const [name, isOurs] of [
    ["ours", true],
    ["chosen", false],
  ] as const) {
    const artifacts = new ArtifactFolder(join(folder, name), isOurs);
    await artifacts.keep("a", Readable.from([Buffer.from("x")]));
    const expected = isOurs ? [".gitignore", "a"] : ["a"];
    assert.deepEqual((await readdir(join(folder, name))).sort(), expected);
  }
  await writeFile(join(folder, "ours", ".gitignore"), "mine\n");
  await new ArtifactFolder(join(folder, "ours"), true).keep("b", Readable.from([Buffer.from("x")]));
  assert.equal(await readFile(join(folder, "ours", ".gitignore"), "utf8"), "mine\n");
});

test("a file in the folder's place is refused before anything runs", async () => {
  await writeFile(join(folder, "out"), "");
  await assert.rejects(new ArtifactFolder(join(folder, "out")).check(), { code: "invalid" });
  await new ArtifactFolder(join(folder, "none")).check();
});

test("a link in the folder leads nothing out of it", async () => {
  await mkdir(join(folder, "out"));
  await mkdir(join(folder, "elsewhere"));
  await symlink("../elsewhere", join(folder, "out", "link"));
  const artifacts = new ArtifactFolder(join(folder, "out"));
  await assert.rejects(artifacts.keep("link/x", Readable.from([Buffer.from("x")])), {
    code: "forbidden",
  });
  assert.deepEqual(await readdir(join(folder, "elsewhere")), []);
});

test("a link in a file's place is replaced, not written through", async () => {
  await mkdir(join(folder, "out"));
  await writeFile(join(folder, "mine"), "mine");
  await symlink("../mine", join(folder, "out", "x"));
  const artifacts = new ArtifactFolder(join(folder, "out"));
  await artifacts.keep("x", Readable.from([Buffer.from("theirs")]));
  assert.equal(await readFile(join(folder, "mine"), "utf8"), "mine");
  assert.equal(await readFile(join(folder, "out", "x"), "utf8"), "theirs");
});

test("a file where a folder is to be is a conflict, and a cut upload leaves nothing", async () => {
  const artifacts = new ArtifactFolder(join(folder, "out"));
  await artifacts.keep("a", Readable.from([Buffer.from("x")]));
  await assert.rejects(artifacts.keep("a/b", Readable.from([Buffer.from("x")])), {
    code: "conflict",
  });
  const cut = new Readable({
    read() {
      this.push("half");
      this.destroy(new Error("gone"));
    },
  });
  await assert.rejects(artifacts.keep("c", cut));
  assert.deepEqual(await readdir(join(folder, "out")), ["a"]);
});
