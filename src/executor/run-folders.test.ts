import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { installationOf, RunFolders } from "./run-folders.ts";

let state = "";
beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), "mayfly-run-"));
});
afterEach(() => rm(state, { recursive: true, force: true }));

/** As if the process that made it had ended and its number been given to another. */
async function orphan(folders: RunFolders, machine: string): Promise<void> {
  const path = join(folders.of(machine), "note.json");
  const note = JSON.parse(await readFile(path, "utf8")) as object;
  await writeFile(path, JSON.stringify({ ...note, since: "another start" }));
}

test("a run that lives, or is kept, is nobody's leftover", async () => {
  const folders = new RunFolders(state);
  assert.deepEqual(await folders.leftovers(0), []);
  await folders.make("host", "run-a", "word");
  await folders.make("podman", "run-b", "word");
  assert.deepEqual(await folders.leftovers(0), []);
  await orphan(folders, "run-b");
  assert.deepEqual(
    (await folders.leftovers(0)).map(({ machine, provider }) => [machine, provider]),
    [["run-b", "podman"]],
  );
  await folders.keep("run-b", 1000);
  assert.deepEqual(await folders.leftovers(999), []);
  assert.equal((await folders.leftovers(1001)).length, 1);
  await folders.remove("run-b");
  assert.equal(await folders.read("run-b"), null);
});

test("a note that is none, or another's, ends nothing", async () => {
  const folders = new RunFolders(state);
  await folders.make("host", "run-a", "word");
  await orphan(folders, "run-a");
  const path = join(folders.of("run-a"), "note.json");
  const note = await readFile(path, "utf8");
  await writeFile(path, note.replace('"machine":"run-a"', '"machine":"run-z"'));
  assert.deepEqual(await folders.leftovers(0), []);
  await writeFile(path, note.slice(0, 10));
  assert.deepEqual(await folders.leftovers(0), []);
});

test("each state folder's machines have a prefix of their own", async () => {
  const other = await mkdtemp(join(tmpdir(), "mayfly-run-"));
  try {
    assert.match(await installationOf(state), /^run[0-9a-f]{8}$/);
    assert.equal(await installationOf(state), await installationOf(state));
    assert.notEqual(await installationOf(state), await installationOf(other));
  } finally {
    await rm(other, { recursive: true });
  }
});
