import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { samplePool, sampleSighting } from "../../test/samples.ts";
import { World } from "../../test/world.ts";
import type { Forge } from "../forges/forge.ts";
import { findJob } from "../store/questions.ts";

type Listen = NonNullable<Forge["listen"]>;

const open: World[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

/** A world whose forge has a line: what is done with it is `listen`. */
async function world(listen: Listen): Promise<World> {
  const one = await World.open({ pools: [samplePool({ labels: ["linux"] })] });
  open.push(one);
  one.forge.tells = false;
  // Nothing is polled: what is known comes by the line.
  Object.assign(one.forge, { listen, poll: async () => [] });
  return one;
}

const waiting = sampleSighting({ forge: "acme", externalId: "1", labels: ["linux"] });

function until(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

test("a line's jobs are stored before it hears that they have arrived", async () => {
  let lines = 0;
  let stored: string | undefined;
  const one = await world(async (tell, signal) => {
    lines += 1;
    if (lines === 1) {
      await tell([waiting]);
      stored = (await findJob(one.store.db, "acme-1"))?.state;
    }
    await until(signal);
  });
  await one.clock.run(40_000);
  assert.equal(stored, "waiting");
  assert.equal(one.provider.alive().length, 1, "it has its machine");
  await one.clock.run(300_000);
  assert.equal(lines, 1, "one line, however many rounds");
});

test("a line that fails is opened again, later each time", async () => {
  const at: number[] = [];
  const one = await world(async () => {
    at.push(one.clock.now());
    throw new Error("the queue is closed");
  });
  await one.clock.run(30 * 60_000);
  assert.ok(at.length >= 4, `${at.length} times`);
  assert.ok(at.length <= 30, `${at.length} times in half an hour, not in each round`);
});

test("a line is closed when the manager stops, and opened by the next", async () => {
  let lines = 0;
  let closed = 0;
  const one = await world(async (_tell, signal) => {
    lines += 1;
    await until(signal);
    closed += 1;
  });
  await one.clock.run(40_000);
  assert.deepEqual([lines, closed], [1, 0]);
  const stopping = one.fleet.stop();
  await one.clock.run(10_000);
  await stopping;
  assert.deepEqual([lines, closed], [1, 1]);
  await one.startFleet();
  await one.clock.run(40_000);
  assert.deepEqual([lines, closed], [2, 1]);
});
