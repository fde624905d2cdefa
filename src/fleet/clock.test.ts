import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keepTime, type Moment } from "../store/times.ts";
import { World } from "../../test/world.ts";
import { SteadyClock, within } from "./clock.ts";

const hourMs = 3_600_000;

describe("a steady clock", () => {
  test("goes on as time does, whatever the system's is set to", () => {
    let wall = 1_800_000_000_000;
    let elapsed = 5_000;
    const clock = new SteadyClock(
      () => wall,
      () => elapsed,
    );
    const start = clock.now();
    assert.equal(start, wall);
    elapsed += 1000;
    wall += 1000 + 3 * hourMs;
    assert.equal(clock.now() - start, 1000);
    assert.equal(clock.setByMs(), 3 * hourMs);
    wall -= 10 * hourMs;
    assert.equal(clock.now() - start, 1000);
    assert.equal(clock.setByMs(), -7 * hourMs);
    clock.follow();
    assert.equal(clock.now(), wall);
    assert.equal(clock.setByMs(), 0);
  });
});

test("work that throws at once leaves neither a timer nor an ear behind", async () => {
  let timers = 0;
  const clock = {
    now: () => 0,
    after: () => {
      timers += 1;
      return () => (timers -= 1);
    },
  };
  const parent = new AbortController();
  const work = (): never => {
    throw new Error("at once");
  };
  await assert.rejects(within(clock, 1000, parent.signal, work), /at once/);
  assert.equal(timers, 0);
  // With an ear left, this would be a rejection that nobody handles, which ends the process.
  parent.abort(new Error("stopping"));
  await new Promise((resolve) => setImmediate(resolve));
});

/** A manager dies, the clock is set, and the next one starts on the same store. */
async function restart(world: World, setBy: number, boots: readonly [string, string]) {
  const keep = (boot: string, elapsed: number): Promise<number> => {
    const moment: Moment = { boot, elapsed, now: world.clock.now() };
    return world.store.write((tx) => keepTime(tx, moment));
  };
  await keep(boots[0], 1000);
  const stopping = world.fleet.stop();
  await world.clock.run(1000);
  await stopping;
  world.clock.set(setBy);
  const told = await keep(boots[1], boots[0] === boots[1] ? 2000 : 10);
  await world.startFleet();
  return told;
}

async function outcomes(world: World): Promise<(string | null)[]> {
  const rows = await world.store.db.selectFrom("jobs").select("outcome").orderBy("id").execute();
  return rows.map(({ outcome }) => outcome);
}

for (const setBy of [100 * hourMs, -5 * hourMs]) {
  const way = setBy > 0 ? "forwards" : "backwards";
  describe(`a clock set ${way} by ${Math.abs(setBy) / hourMs} h between two starts`, () => {
    test("ends no machine, and holds none up", async () => {
      const world = await World.open({ jobMs: 30 * 60_000 });
      world.forge.queue("a");
      await world.clock.run(60_000);
      const before = await world.store.db.selectFrom("runners").selectAll().execute();
      assert.equal(await restart(world, setBy, ["one", "one"]), setBy);
      world.forge.queue("b");
      await world.clock.run(10 * 60_000);
      const during = await world.store.db.selectFrom("runners").selectAll().execute();
      assert.deepEqual(
        during.map(({ state }) => state),
        ["started", "started"],
      );
      await world.clock.run(40 * 60_000);
      assert.deepEqual(await outcomes(world), ["success", "success"]);
      const after = await world.store.db.selectFrom("runners").selectAll().execute();
      assert.ok(after.every(({ state }) => state === "gone"));
      // A machine's life is as long as it was.
      const first = after.find(({ name }) => name === before[0]?.name);
      const livedMs = (first?.gone_at ?? 0) - (first?.claimed_at ?? 0);
      assert.ok(livedMs > 30 * 60_000 && livedMs < 32 * 60_000, `${livedMs} ms`);
      await world.close();
    });
  });
}

test("after another start of the system, only a clock that went back is told", async () => {
  for (const [setBy, told] of [
    [100 * hourMs, false],
    [-5 * hourMs, true],
  ] as const) {
    const world = await World.open({ jobMs: 30 * 60_000 });
    world.forge.queue("a");
    await world.clock.run(60_000);
    const by = await restart(world, setBy, ["one", "two"]);
    // It went on for a second before it was set.
    if (told) assert.ok(by >= setBy && by <= setBy + 1000, String(by));
    else assert.equal(by, 0);
    await world.close();
  }
});

test("two starts on a sound clock move nothing", async () => {
  const world = await World.open({ jobMs: 30 * 60_000 });
  world.forge.queue("a");
  await world.clock.run(60_000);
  assert.equal(await restart(world, 0, ["one", "one"]), 0);
  await world.close();
});
