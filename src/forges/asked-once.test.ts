import assert from "node:assert/strict";
import { test } from "node:test";
import { AskedOnce } from "./asked-once.ts";

test("asks once, also for those that come while the first waits, and again after a failure", async () => {
  const once = new AskedOnce<string, number>(2);
  let asked = 0;
  const ask = async (): Promise<number> => {
    asked++;
    await Promise.resolve();
    if (asked === 1) throw new Error("the first fails");
    return asked;
  };
  const first = await Promise.allSettled([once.get("a", ask), once.get("a", ask)]);
  assert.deepEqual(
    first.map(({ status }) => status),
    ["rejected", "rejected"],
  );
  assert.deepEqual(await Promise.all([once.get("a", ask), once.get("a", ask)]), [2, 2]);
  assert.equal(await once.get("a", ask), 2);
  assert.equal(asked, 2);
  await once.get("b", ask);
  await once.get("c", ask);
  assert.equal(await once.get("a", ask), 5, "the oldest was forgotten");
});
