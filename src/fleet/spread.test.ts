import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { preferredHolders } from "./spread.ts";

const word = fc.stringMatching(/^[a-z0-9-]{1,12}$/);
const replicas = fc.uniqueArray(word, { minLength: 1, maxLength: 9 });
const resources = fc
  .uniqueArray(word, { maxLength: 60 })
  .map((names) => names.map((name) => `pool/${name}`));

test("every resource has a holder, and no replica has two more of a kind than another", () => {
  fc.assert(
    fc.property(resources, replicas, (some, living) => {
      const both = [...some, "provider/one", "provider/two", "housekeeping"];
      const holders = preferredHolders(both, living);
      assert.deepEqual(new Set(holders.keys()), new Set(both));
      for (const kind of ["pool", "provider", "housekeeping"]) {
        const shares = living.map(
          (replica) =>
            [...holders].filter(([name, holder]) => holder === replica && name.startsWith(kind))
              .length,
        );
        assert.ok(Math.max(...shares) - Math.min(...shares) <= 1, `${kind}: ${shares.join()}`);
      }
    }),
  );
});

test("all find the same, in whatever order they know resources and replicas", () => {
  fc.assert(
    fc.property(resources, replicas, (some, living) => {
      const one = preferredHolders(some, living);
      const other = preferredHolders(some.toReversed(), living.toReversed());
      assert.deepEqual(Object.fromEntries(one), Object.fromEntries(other));
    }),
  );
});

test("when one leaves, its share moves and little else", () => {
  const count = fc.record({ pools: fc.integer({ min: 0, max: 60 }), seed: word });
  fc.assert(
    fc.property(count, fc.uniqueArray(word, { minLength: 2, maxLength: 9 }), (of, living) => {
      const some = Array.from({ length: of.pools }, (_, n) => `pool/${of.seed}${n}`);
      const [gone, ...rest] = living;
      const before = preferredHolders(some, living);
      const after = preferredHolders(some, rest);
      const moved = some.filter((name) => before.get(name) !== after.get(name));
      const orphaned = some.filter((name) => before.get(name) === gone);
      for (const name of orphaned) assert.ok(moved.includes(name));
      const share = Math.ceil(some.length / living.length);
      assert.ok(
        moved.length <= 2 * share + living.length,
        `${moved.length} moved of ${some.length}`,
      );
    }),
  );
});
