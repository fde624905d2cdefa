import assert from "node:assert/strict";
import { test } from "node:test";
import { HandClock, onBothEngines } from "../../test/stores.ts";
import { StubFleet } from "../../test/web.ts";
import { moveRunner } from "../store/runners.ts";
import { Trends, type Trend, type TrendPoint } from "./trends.ts";

const minute = 60_000;
const hour = 60 * minute;
/** On the hour, so that what falls into which interval is plain. */
const noon = Date.UTC(2027, 0, 15, 12);

function at(trend: Trend, moment: number): TrendPoint {
  const found = trend.points.find(
    (point) => moment < point.at && moment >= point.at - trend.stepMs,
  );
  assert.ok(found);
  return found;
}

onBothEngines("trends", (under) => {
  test("nothing ever happened: every value is nothing", async () => {
    const clock = new HandClock();
    clock.at = noon;
    const store = await under.open(clock);
    for (const window of ["24h", "7d"] as const) {
      const { points } = await new Trends(store, clock.now).over(window);
      assert.ok(points.length > 40);
      for (const { queue, waitP50Ms, machineSeconds, microUsd } of points) {
        assert.deepEqual([queue, waitP50Ms, machineSeconds, microUsd], [0, null, 0, 0]);
      }
      assert.ok((points.at(-1)?.at ?? 0) >= noon);
    }
  });

  test("waits, queue, machine time and cost fall where they were", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const fleet = new StubFleet(store);
    fleet.clock = clock;
    const price = { microUsdPerHour: 1_000_000, quantumSeconds: 1, minimumSeconds: 0 };

    // Three hours ago four jobs came; one machine lived two hours for them.
    clock.at = noon - 3 * hour;
    const waits = [1_000, 2_000, 3_000, 20 * minute];
    for (const index of waits.keys()) await fleet.put({ externalId: `${index}` });
    await fleet.machine("m-1", "up", { price });
    for (const [index, wait] of waits.entries()) {
      clock.at = noon - 3 * hour + wait;
      const startedAt = clock.at;
      await fleet.put({ externalId: `${index}`, state: "started", startedAt });
    }
    clock.at = noon - hour;
    await store.write((tx) => moveRunner(tx, "m-1", "gone", { reason: "x" }));
    // Now one waits.
    clock.at = noon - minute;
    await fleet.put({ externalId: "now" });
    clock.at = noon;

    const trends = new Trends(store, clock.now);
    const trend = await trends.over("24h");
    const busy = at(trend, noon - 3 * hour);
    assert.equal(busy.queue, 1, "one still waited at the end of its first quarter");
    assert.ok(Math.abs((busy.waitP50Ms ?? 0) - 2_000) < 100, String(busy.waitP50Ms));
    assert.ok(Math.abs((busy.waitP95Ms ?? 0) - 20 * minute) < minute, String(busy.waitP95Ms));
    assert.equal(Math.round(busy.machineSeconds), 1800);
    assert.equal(Math.round(busy.microUsd), 500_000);
    const quiet = at(trend, noon - 5 * hour);
    assert.deepEqual([quiet.queue, quiet.waitP95Ms, quiet.machineSeconds], [0, null, 0]);
    assert.equal(at(trend, noon - 1).queue, 1);
    const sum = (field: "machineSeconds" | "microUsd"): number =>
      Math.round(trend.points.reduce((total, point) => total + point[field], 0));
    assert.equal(sum("machineSeconds"), 7200);
    assert.equal(sum("microUsd"), 2_000_000);

    assert.equal(await trends.costSince(noon - 2 * hour), 1_000_000, "half of it since then");
    const week = await trends.over("7d");
    assert.equal(
      Math.round(week.points.reduce((total, point) => total + point.microUsd, 0)),
      2_000_000,
    );
  });

  test("what still goes on is counted anew, and more rows than a page holds are all counted", async () => {
    const clock = new HandClock();
    clock.at = noon - 30 * minute;
    const store = await under.open(clock);
    const fleet = new StubFleet(store);
    fleet.clock = clock;
    const trends = new Trends(store, clock.now);
    await trends.over("24h");
    await fleet.machine("m-1", "up", {
      price: { microUsdPerHour: 1_000_000, quantumSeconds: 1, minimumSeconds: 0 },
    });
    clock.at = noon;
    assert.equal(await trends.costSince(noon - hour), 500_000);
    clock.at = noon + hour;
    assert.equal(await trends.costSince(noon - hour), 1_500_000);

    const { recordSightings } = await import("../store/jobs.ts");
    const { placed, sampleSighting } = await import("../../test/samples.ts");
    const many = Array.from({ length: 2500 }, (_, index) =>
      placed(sampleSighting({ externalId: `n${index}`, queuedAt: clock.at })),
    );
    await store.write((tx) => recordSightings(tx, many));
    clock.advance(minute);
    assert.equal(at(await trends.over("24h"), clock.at).queue, 2500);
  });
});
