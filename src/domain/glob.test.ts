import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { matchesGlob } from "./glob.ts";

test("only the star is special", () => {
  assert.ok(matchesGlob("linux", "linux"));
  assert.ok(matchesGlob("Linux", "LINUX"));
  assert.ok(!matchesGlob("linux", "linux2"));
  assert.ok(!matchesGlob("linux", "a-linux"));
  assert.ok(matchesGlob("*", ""));
  assert.ok(matchesGlob("", ""));
  assert.ok(!matchesGlob("", "a"));
  assert.ok(matchesGlob("mayfly=*/cpu=4", "mayfly=17/cpu=4"));
  assert.ok(matchesGlob("*-*-x", "a-b-c-x"));
  assert.ok(!matchesGlob("a?c", "abc"));
  assert.ok(!matchesGlob("a.c", "abc"));
  assert.ok(matchesGlob("[a]", "[a]"));
});

test("agrees with a regular expression on small words", () => {
  const pattern = fc.stringMatching(/^[ab.*]{0,6}$/);
  const text = fc.stringMatching(/^[ab.]{0,8}$/);
  fc.assert(
    fc.property(pattern, text, (wanted, given) => {
      const expression = wanted.replaceAll(".", "\\.").replaceAll("*", ".*");
      assert.equal(matchesGlob(wanted, given), new RegExp(`^${expression}$`).test(given));
    }),
    { numRuns: 2000 },
  );
});

test("a text matches itself with any part of it starred out", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), fc.string(), (a, b, c) => {
      assert.ok(matchesGlob(`${a}*${c}`, a + b + c));
    }),
  );
});

test("a pattern made to explode does not", () => {
  // A backtracking matcher would need about 256^20 steps for this and never return.
  assert.ok(!matchesGlob("a*".repeat(20) + "b", "a".repeat(256)));
});
