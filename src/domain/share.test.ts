import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { shareInTurn } from "./share.ts";

/** What `shareInTurn` says without dealing: one each in turn, until nobody wants or nothing is left. */
function deal(wants: readonly number[], room: number): number[] {
  const dealt = wants.map(() => 0);
  let left = room;
  while (left > 0 && wants.some((want, index) => dealt[index]! < want)) {
    for (const [index, want] of wants.entries()) {
      if (left > 0 && dealt[index]! < want) {
        dealt[index]!++;
        left--;
      }
    }
  }
  return dealt;
}

test("a burst does not starve the others, and the longest waiting come first", () => {
  assert.deepEqual(shareInTurn([100, 1, 2], 5), [2, 1, 2]);
  assert.deepEqual(shareInTurn([3, 3, 3], 5), [2, 2, 1]);
  assert.deepEqual(shareInTurn([3, 3], 0), [0, 0]);
  assert.deepEqual(shareInTurn([], 7), []);
  assert.deepEqual(shareInTurn([1e9], 1e8), [1e8]);
});

test("is the same as dealing one by one", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(12), { maxLength: 8 }), fc.nat(60), (wants, room) => {
      assert.deepEqual(shareInTurn(wants, room), deal(wants, room));
    }),
    { numRuns: 2000 },
  );
});
