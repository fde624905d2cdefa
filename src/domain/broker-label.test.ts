import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkTemplate, LabelTemplate } from "./broker-label.ts";
import { MayflyError } from "./errors.ts";

const architectures = ["x86_64", "arm64"];
const rr = new LabelTemplate("rr_runner_{id}", architectures);
const own = new LabelTemplate("mayfly_{run}_{attempt}", architectures);
const uuid = "0123456789abcdef0123456789abcdef";

test("rr's labels are read, with and without their architecture", () => {
  const base = `rr_runner_${uuid}`;
  const plain = { base, run: null, attempt: null, id: uuid, architecture: null };
  assert.deepEqual(rr.parse(base), plain);
  assert.deepEqual(rr.parse(`${base}_x86_64`), { ...plain, architecture: "x86_64" });
  assert.equal(rr.parse(`${base}_riscv`), null);
  assert.equal(rr.namesRun, false);
  assert.equal(rr.of("1", 1), null);
});

test("a label may name its run and attempt", () => {
  assert.deepEqual(own.parse("mayfly_123_2"), {
    ...{ base: "mayfly_123_2", run: "123", attempt: 2, id: null, architecture: null },
  });
  assert.equal(own.of("123", 2), "mayfly_123_2");
  for (const wrong of [
    "mayfly_0_1",
    "mayfly_012_1",
    "mayfly_1_0",
    "mayfly_1",
    "mayfly_1_1_",
    "Mayfly_1_1",
  ]) {
    assert.equal(own.parse(wrong), null, wrong);
  }
});

test("nothing but a whole label is one: no end of a line, no command behind it", () => {
  const good = `rr_runner_${uuid}`;
  const injected = fc.oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 40 }),
    fc.constantFrom(
      "\n",
      "\r\n",
      "\0",
      ";id",
      "$(id)",
      "`id`",
      " && id",
      "'",
      '"',
      "/../..",
      "\u2028",
    ),
  );
  fc.assert(
    fc.property(injected, fc.nat(good.length), (text, at) => {
      const label = good.slice(0, at) + text + good.slice(at);
      const parts = rr.parse(label);
      if (parts === null) return;
      assert.match(label, /^rr_runner_[0-9a-z]{8,64}(_x86_64|_arm64)?$/);
    }),
  );
  assert.equal(rr.parse(`${good}\n`), null);
});

test("any text is read in bounded time and gives back what it was", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 300 }), (text) => {
      const parts = rr.parse(text);
      assert.ok(parts === null || text.startsWith(parts.base));
    }),
  );
  assert.equal(rr.parse(`rr_runner_${"a".repeat(10_000_000)}`), null);
});

test("what a template says is what is read", () => {
  const run = fc.integer({ min: 1, max: 999_999_999_999_999 });
  const id = fc.stringMatching(/^[0-9a-z]{8,64}$/);
  const template = new LabelTemplate("ci-{run}_{attempt}-{id}", architectures);
  fc.assert(
    fc.property(run, fc.integer({ min: 1, max: 9999 }), id, (run, attempt, id) => {
      const parts = template.parse(`ci-${run}_${attempt}-${id}`);
      assert.deepEqual([parts?.run, parts?.attempt, parts?.id], [String(run), attempt, id]);
    }),
  );
});

test("templates that would not tell labels apart are refused", () => {
  for (const text of [
    "{run}",
    "x{run}",
    "a_{run}{id}",
    "a_",
    "a_{attempt}",
    "a_{run}_{run}",
    "a_{name}",
    "A_{run}",
    "a_{run}.b",
    `${"a".repeat(60)}_{run}`,
  ]) {
    assert.throws(() => checkTemplate(text), MayflyError, text);
  }
  for (const text of ["a_{run}", "rr_runner_{id}", "mayfly_{run}_{attempt}", "x-{run}-{id}-end"]) {
    checkTemplate(text);
  }
});
