import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "kysely";
import { placed, sampleSighting } from "../../test/samples.ts";
import { HandClock, onBothEngines } from "../../test/stores.ts";
import { arrivalsBetween, findForecast, saveForecast } from "./arrivals.ts";
import { recordSightings } from "./jobs.ts";
import { prune } from "./retention.ts";
import type { Store } from "./store.ts";

const stepMs = 15_000;
const at = 1_800_000_000_000;

async function queue(store: Store, jobs: readonly [number, string, string?][]): Promise<void> {
  await store.write((tx) =>
    recordSightings(
      tx,
      jobs.map(([queuedAt, label, pool = "small"], index) =>
        placed(sampleSighting({ externalId: `${queuedAt}-${index}`, labels: [label], queuedAt }), {
          pool,
        }),
      ),
    ),
  );
}

onBothEngines("arrivals", (under) => {
  test("are counted by step and class, of one pool, from the first moment to before the last", async () => {
    const store = await under.open(new HandClock());
    await queue(store, [
      [at - 1, "a"],
      [at, "a"],
      [at + 14_999, "a"],
      [at + 15_000, "a"],
      [at + 15_000, "b"],
      [at + 15_000, "a", "other"],
      [at + 30_000, "a"],
    ]);
    const range = { from: at, to: at + 30_000, stepMs };
    const found = await arrivalsBetween(store.db, "small", range);
    assert.deepEqual(
      found.map(({ labelClass, at: step, count }) => `${step - at} ${labelClass} ${count}`).sort(),
      ['0 ["a"] 2', '15000 ["a"] 1', '15000 ["b"] 1'],
    );
  });

  test("what was learned is one row a pool, and goes when nobody has kept it for long", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    assert.equal(await findForecast(store.db, "small"), null);
    await store.write((tx) => saveForecast(tx, "small", "one"));
    await store.write((tx) => saveForecast(tx, "small", "two"));
    await store.write((tx) => saveForecast(tx, "big", "three"));
    assert.equal(await findForecast(store.db, "small"), "two");
    clock.advance(60 * 24 * 3600 * 1000);
    await store.write((tx) => saveForecast(tx, "big", "four"));
    clock.advance(60 * 24 * 3600 * 1000);
    await prune(store, clock.now());
    assert.equal(await findForecast(store.db, "small"), null);
    assert.equal(await findForecast(store.db, "big"), "four");
  });

  test("are found by age, not by going through a pool's jobs", async () => {
    const store = await under.open(new HandClock());
    if (store.engine !== "sqlite") return;
    const { rows } = await sql<{ detail: string }>`
      explain query plan select label_class, queued_at / cast(${stepMs} as bigint) from jobs
      where queued_at >= ${at} and queued_at < ${at + 1} and coalesce(pool, '') = ${"small"}
      order by queued_at limit 5000`.execute(store.db);
    assert.match(rows.map(({ detail }) => detail).join("; "), /USING INDEX jobs_by_age/);
  });
});
