import assert from "node:assert/strict";
import { posix } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { isInnerPath, targetCommand } from "./native-work.ts";

test("an inner path stays inside, wherever it is joined", () => {
  const part = fc.oneof(
    fc.constantFrom("..", ".", "", "a", "...", " ", "a..", "*", "**"),
    fc.string({ maxLength: 5 }),
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
      const path = parts.join("/");
      if (!isInnerPath(path)) return;
      const joined = posix.join("/root/work", path);
      assert.ok(joined === "/root/work" || joined.startsWith("/root/work/"), joined);
      assert.ok(!/\p{Cc}/u.test(path));
    }),
  );
});

test("paths that people write are inner ones", () => {
  for (const path of [
    "a",
    "dist/*.tgz",
    "./a",
    "a/",
    "with space/ü",
    "**/*.xml",
    ".hidden",
    "a..b",
  ]) {
    assert.equal(isInnerPath(path), true, path);
  }
  for (const path of ["", "/", "/a", "..", "a/../b", "a\nb", "\ud800", "x".repeat(1001)]) {
    assert.equal(isInnerPath(path), false, path);
  }
});

test("a target's name is never an option, nor anything for a shell", () => {
  for (const name of ["test", "all", "lint:fix", "a/b.o", "_x", "1"]) {
    assert.deepEqual(targetCommand(name), ["mayfly-target", name]);
  }
  for (const name of ["", "-f", "--eval=x", "a b", "a;b", "$(x)", "a=b", "x".repeat(201), "ü"]) {
    assert.throws(() => targetCommand(name), { code: "invalid", where: "target" });
  }
});
