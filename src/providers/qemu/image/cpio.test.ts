import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, readlink, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { cpio, type CpioEntry } from "./cpio.ts";

const without = spawnSync("cpio", ["--version"]).status === 0 ? false : "cpio is not installed";
const name = fc.stringMatching(/^[a-z]{1,6}$/);
const entries = fc.uniqueArray(
  fc.record({
    path: fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => `top/${parts.join("/")}.x`),
    kind: fc.constant("file" as const),
    mode: fc.constantFrom(0o644, 0o755, 0o600),
    content: fc.uint8Array({ maxLength: 50 }),
  }),
  { selector: ({ path }) => path, maxLength: 12 },
);

describe("the archive of a first file system", () => {
  test("is read by cpio itself", { skip: without }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "cpio-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const archive = cpio([
      { path: "a/b/file", kind: "file", mode: 0o750, content: Buffer.from("odd") },
      { path: "a/link", kind: "link", mode: 0o777, content: Buffer.from("b/file") },
      { path: "empty", kind: "folder", mode: 0o700 },
    ]);
    const unpacked = spawnSync("cpio", ["-id", "--quiet", "-D", folder], { input: archive });
    assert.equal(unpacked.status, 0, unpacked.stderr.toString());
    assert.equal(await readFile(join(folder, "a/b/file"), "utf8"), "odd");
    assert.equal((await stat(join(folder, "a/b/file"))).mode & 0o7777, 0o750);
    assert.equal(await readlink(join(folder, "a/link")), "b/file");
    assert.equal((await stat(join(folder, "empty"))).mode & 0o7777, 0o700);
    assert.equal((await stat(join(folder, "a/b"))).mode & 0o7777, 0o755);
  });

  test("has devices by their numbers, and all is root's", { skip: without }, () => {
    const console: CpioEntry = { path: "dev/console", kind: "device", mode: 0o600, device: [5, 1] };
    const listed = spawnSync("cpio", ["-itvn", "--quiet"], { input: cpio([console]) });
    assert.match(listed.stdout.toString(), /^crw-{7} .*\b0\s+0\s+5,\s+1 .*dev\/console$/m);
  });

  test("names every folder before what is in it, and each path once", { skip: without }, () => {
    fc.assert(
      fc.property(entries, (some) => {
        const input = cpio(some);
        const { stdout, status } = spawnSync("cpio", ["-it", "--quiet"], { input });
        assert.equal(status, 0);
        const paths = stdout.toString().split("\n").filter(Boolean);
        assert.equal(new Set(paths).size, paths.length);
        for (const path of paths.filter((one) => one.includes("/"))) {
          const folder = path.slice(0, path.lastIndexOf("/"));
          assert.ok(paths.indexOf(folder) !== -1 && paths.indexOf(folder) < paths.indexOf(path));
        }
        for (const { path } of some) assert.ok(paths.includes(path), path);
      }),
      { numRuns: 25 },
    );
  });

  test("does not depend on the order of its entries", () => {
    fc.assert(
      fc.property(entries, (some) => {
        assert.deepEqual(cpio(some), cpio(some.toReversed()));
      }),
    );
  });
});
