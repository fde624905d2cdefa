import assert from "node:assert/strict";
import { test } from "node:test";
import { atOnce } from "./at-once.ts";

test("does no more at a time than it may, and keeps the order", async () => {
  let [now, most] = [0, 0];
  const done = await atOnce([5, 1, 4, 2, 3], 2, async (n) => {
    most = Math.max(most, ++now);
    for (let turn = 0; turn < n; turn++) await Promise.resolve();
    now--;
    return n * 10;
  });
  assert.deepEqual(done, [50, 10, 40, 20, 30]);
  assert.equal(most, 2);
});

test("begins nothing more after a failure", async () => {
  const begun: number[] = [];
  const all = atOnce([1, 2, 3, 4, 5, 6], 2, async (n) => {
    begun.push(n);
    await Promise.resolve();
    if (n === 2) throw new Error("two");
  });
  await assert.rejects(all, /two/);
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  assert.ok(begun.length <= 3, begun.join());
});
