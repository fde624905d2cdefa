import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { clip, counted, listed, nearest, quote } from "./words.ts";

test("a clipped text has a bound and is still text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.integer({ min: 1, max: 40 }), (text, most) => {
      const clipped = clip(text, most);
      assert.ok(clipped.length <= most);
      assert.ok(clipped.isWellFormed());
      if (text.length <= most) assert.equal(clipped, text);
    }),
  );
});

test("an ellipsis never splits a character", () => {
  assert.equal(clip("ab🙂cd", 4), "ab…");
  assert.equal(clip("ab🙂cd", 5), "ab🙂…");
  assert.equal(clip("🙂🙂", 1), "…");
});

test("words from outside are quoted and bounded", () => {
  assert.equal(quote("linux"), '"linux"');
  assert.equal(quote("x".repeat(300)).length, 62);
  assert.equal(quote("a\n\u001b[2J\u009b\u2028b\ud800"), '"a\ufffd\ufffd[2J\ufffd\ufffdb\ufffd"');
});

test("lists read like sentences", () => {
  assert.equal(listed([]), "");
  assert.equal(listed(["a"]), "a");
  assert.equal(listed(["a", "b"]), "a and b");
  assert.equal(listed(["a", "b", "c"]), "a, b and c");
  assert.equal(listed(["a", "b", "c", "d"], 2), "a, b and 2 more");
  assert.equal(listed(["a", "b", "c"], 2), "a, b and 1 more");
});

test("counts agree with their noun", () => {
  assert.equal(counted(0, "job"), "0 jobs");
  assert.equal(counted(1, "job"), "1 job");
  assert.equal(counted(2, "job"), "2 jobs");
});

test("a misspelt word finds its neighbour", () => {
  const known = ["cpu", "ram", "disk", "image", "provider"];
  for (const [word, meant] of [
    ["cp", "cpu"],
    ["cpuu", "cpu"],
    ["rma", "ram"],
    ["Dsk", "disk"],
    ["imgae", "image"],
    ["provder", "provider"],
    ["images", "image"],
    ["prov", "provider"],
    ["ima", "image"],
    ["rap", "ram"],
    ["cat", null],
    ["dixxx", null],
    ["imxxe", null],
    ["zebra", null],
    ["", null],
    ["x", null],
  ] as const) {
    assert.equal(nearest(word, known), meant, word);
  }
});

test("of two neighbours the nearer one is meant, else the first", () => {
  assert.equal(nearest("memoryy", ["memxry", "memory"]), "memory");
  assert.equal(nearest("cpx", ["cpu", "cpa"]), "cpu");
  assert.equal(nearest("abdc", ["abxy", "abcd"]), "abcd", "a swap is one slip");
});

test("one slip in a word of four letters or more is always understood", () => {
  const words = fc.stringMatching(/^[a-z]{4,12}$/);
  fc.assert(
    fc.property(words, fc.nat(), fc.constantFrom("drop", "double", "swap"), (word, at, slip) => {
      const i = at % (word.length - 1);
      const [a, b] = [word[i]!, word[i + 1]!];
      const middle = { drop: b, double: a + a + b, swap: b + a }[slip];
      const misspelt = word.slice(0, i) + middle + word.slice(i + 2);
      assert.equal(nearest(misspelt, ["#".repeat(12), word]), word);
    }),
  );
});

test("a very long word costs no more than a short one", () => {
  assert.equal(nearest("x".repeat(100_000), ["cpu", "ram"]), null);
});
