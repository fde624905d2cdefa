import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { silentLog } from "../fleet/log.ts";
import { systemClock } from "../fleet/clock.ts";
import { LookUps } from "./look-ups.ts";

test("where many runs are asked for by number, the list is there before it is needed", async () => {
  let lists = 0;
  const runs = {
    open: async () => {
      lists += 1;
      return [];
    },
    find: async () => null,
  };
  const clock = { now: () => 60_000_000, after: systemClock.after };
  const lookUps = new LookUps({ runs, clock, log: silentLog });
  const asked: boolean[] = [];
  const ask = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) asked.push(lookUps.mayAsk("acme/widget", `${asked.length}`));
    await turn();
  };
  await ask(10);
  assert.equal(lists, 0, "few cost no list");
  await ask(1);
  assert.equal(lists, 1);
  await ask(19);
  assert.equal(lists, 1, "one holds for a while");
  assert.equal(asked.lastIndexOf(true), 19, "twenty a minute");
});
