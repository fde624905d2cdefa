import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { labelClass } from "../src/domain/matching.ts";
import { systemClock } from "../src/fleet/clock.ts";
import { recordSightings } from "../src/store/jobs.ts";
import { Store } from "../src/store/store.ts";
import { placed, samplePool, sampleSighting, size } from "../test/samples.ts";
import { benchFleet } from "./fleet.ts";
import { median, type Bench, type Measure } from "./measure.ts";

const runners = 10_000;
const events = 200;
const waitingCounts = [100, 10_000, 100_000] as const;

/**
 * What one event costs with more and more waiting: from its arrival until it is durable and the
 * pool is planned anew. Each waiting job has a label class of its own, the worst case for counts.
 */
export const flat: Bench = {
  name: "flat",
  about: `one event with ${waitingCounts.join(", ")} jobs waiting and ${runners} runners`,
  run: async () => {
    const costs: { waiting: number; ms: number; memoryMb: number }[] = [];
    for (const waiting of waitingCounts) costs.push({ waiting, ...costOfOne(waiting) });
    const [least] = costs;
    const most = costs.at(-1);
    if (least === undefined || most === undefined) return [];
    const measures: Measure[] = costs.slice(1).map(({ waiting, ms }) => ({
      name: `one event, ${waiting} waiting`,
      value: ms,
      unit: "ms",
      limit: least.ms,
      limitName: `with ${least.waiting} waiting`,
      sense: "at most",
      goal: 2,
    }));
    measures.push({
      name: `memory, ${most.waiting} waiting`,
      value: most.memoryMb,
      unit: "MB",
      limit: 300,
      limitName: "bound",
      sense: "at most",
      goal: 1,
    });
    return measures;
  },
};

interface Cost {
  readonly ms: number;
  readonly memoryMb: number;
}

/** Seeded in one process and measured in another, as a manager that starts on what it finds. */
function costOfOne(waiting: number): Cost {
  const folder = mkdtempSync(join(tmpdir(), "mayfly-bench-"));
  const part = (...words: string[]): string =>
    execFileSync(process.execPath, [import.meta.filename, ...words], { encoding: "utf8" });
  try {
    part("seed", folder, String(waiting));
    return JSON.parse(part("measure", folder)) as Cost;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function measureOn(store: Store): Promise<Cost> {
  const fleet = benchFleet(store, [samplePool({ max: runners })], { sweepMs: 1e9, pollMs: 1e9 });
  await fleet.start();
  const samples: number[] = [];
  for (let i = 0; i < events; i++) {
    const before = fleet.lastPlan("small");
    const startedAt = performance.now();
    await fleet.intake.record([
      sampleSighting({ externalId: `event-${i}`, labels: [`own-${i}`, "small"] }),
    ]);
    // The wake-up of this very event makes a plan of its own.
    while (fleet.lastPlan("small") === before) await new Promise(setImmediate);
    samples.push(performance.now() - startedAt);
  }
  const memoryMb = process.memoryUsage().rss / 2 ** 20;
  await fleet.stop();
  return { ms: median(samples), memoryMb };
}

/** The pool is full of busy runners, so that what waits goes on waiting. */
async function seed(store: Store, waiting: number): Promise<void> {
  for (let from = 0; from < waiting; from += 500) {
    const some = Array.from({ length: Math.min(500, waiting - from) }, (_, i) =>
      placed(sampleSighting({ externalId: `${from + i}`, labels: [`run-${from + i}`] })),
    );
    await store.write((tx) => recordSightings(tx, some));
  }
  const now = Date.now();
  for (let from = 0; from < runners; from += 1000) {
    await store.write(({ db }) =>
      db
        .insertInto("runners")
        .values(Array.from({ length: 1000 }, (_, i) => busyRunner(`b-small-${from + i}`, now)))
        .execute(),
    );
  }
}

function busyRunner(name: string, now: number) {
  return {
    name,
    pool: "small",
    forge: "acme",
    provider: "box",
    labels: "[]",
    label_class: labelClass([]),
    size: JSON.stringify(size),
    price: JSON.stringify({ microUsdPerHour: 0, quantumSeconds: 1, minimumSeconds: 0 }),
    state: "started" as const,
    reason: "seeded",
    job: null,
    redeemed: null,
    claimed_at: now,
    asked_at: now,
    up_at: now,
    started_at: now,
    ended_at: null,
    gone_at: null,
    due_at: now + 3_600_000,
    tries: 0,
    cost_micro_usd: 0,
  };
}

const [part, folder, waiting] = process.argv.slice(2);
if (import.meta.main && folder !== undefined) {
  const store = await Store.open({ engine: "sqlite", folder }, systemClock.now);
  if (part === "seed") await seed(store, Number(waiting));
  else process.stdout.write(JSON.stringify(await measureOn(store)));
  await store.close();
}
