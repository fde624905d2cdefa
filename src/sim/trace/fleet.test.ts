import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { World } from "../../../test/world.ts";
import { samplePool } from "../../../test/samples.ts";
import type { Pool } from "../../domain/pool.ts";
import { Chance } from "../chance.ts";
import { moveRunner } from "../../store/runners.ts";
import { sampleRun, sampleSetting, sampleTrace, type SampleJob } from "./samples.ts";

/*
 * The simulation says what the fleet would do. Here both are given the same jobs: the fleet with its
 * store, reconciler and sweeps on a virtual clock, the simulation with the planner alone.
 */

const bootMs = 20_000;
const durationMs = 90_000;
const second = 1000;

interface Observed {
  /** By job, ms. */
  readonly waits: number[];
  readonly machines: number;
  readonly machineMs: number;
}

/** Gives the jobs to a real fleet, and waits until the last is over. */
async function inTheFleet(pool: Pool, jobs: readonly SampleJob[]): Promise<Observed> {
  const world = await World.open({ pools: [pool], provider: { bootMs }, jobMs: Infinity });
  const { clock, forge, store, provider } = world;
  const startedAt = new Map<string, number>();
  const endedAt = new Map<string, number>();
  const { tell } = forge;
  forge.tell = (sighting) => {
    if (sighting.state === "started") startedAt.set(sighting.externalId, clock.now());
    if (sighting.state === "ended") endedAt.set(sighting.externalId, clock.now());
    tell(sighting);
  };
  // Runners here also wait for a job, as real ones do, and say that they are up.
  const connect = forge.connect.bind(forge);
  const take = (name: string, labels: readonly string[]): string | null => {
    const job = connect(name, labels);
    if (job === null) return null;
    clock.after(durationMs, () => {
      forge.finish(name);
      provider.die(name);
    });
    return job;
  };
  forge.connect = (name, labels) => {
    const job = take(name, labels);
    if (job === null)
      void store.write((tx) => moveRunner(tx, name, "up", { reason: "it said so" }));
    return job;
  };
  const offer = (): void => {
    for (const [name, { job, labels }] of forge.online) if (job === null) take(name, labels);
  };
  try {
    // What is kept warm comes up before the first job, in both.
    await clock.run(60 * second);
    const from = clock.now();
    for (const [index, { queuedAt, labels }] of jobs.entries()) {
      await clock.run(from + queuedAt - clock.now());
      forge.queue(String(index), labels ?? [], { queuedAt: clock.now() });
      offer();
    }
    for (let minutes = 0; endedAt.size < jobs.length && minutes < 120; minutes++) {
      await clock.run(60 * second);
    }
    const waits = jobs.map(
      ({ queuedAt }, index) => (startedAt.get(String(index)) ?? NaN) - from - queuedAt,
    );
    const over = Math.max(...endedAt.values());
    const lives = await store.db.selectFrom("runners").select(["claimed_at", "gone_at"]).execute();
    const lived = lives
      .filter(({ claimed_at }) => claimed_at < over)
      .map(({ claimed_at, gone_at }) => Math.min(gone_at ?? over, over) - claimed_at);
    const machineMs = lived.reduce((sum, ms) => sum + ms, 0);
    return { waits, machines: lived.length, machineMs };
  } finally {
    await world.close();
  }
}

function inTheSimulation(pool: Pool, jobs: readonly SampleJob[]): Observed {
  // A trace begins with its first job: one that nobody takes lets the warm machines come up.
  const early = { queuedAt: 0, durationMs: 0, labels: ["nobody"] };
  const later = jobs.map((job) => ({ ...job, queuedAt: job.queuedAt + 60 * second }));
  const setting = sampleSetting([{ ...pool }], { bootMs: [bootMs], endingMs: 0 });
  const { waitMs, lives } = sampleRun(sampleTrace([early, ...later]), setting);
  const machineMs = lives.reduce((sum, life) => sum + life.goneAt - life.startedAt, 0);
  return { waits: Array.from(waitMs.subarray(1)), machines: lives.length, machineMs };
}

function randomJobs(seed: number, count: number, labelLists: readonly string[][]): SampleJob[] {
  const chance = new Chance(seed).stream("jobs");
  const times = Array.from({ length: count }, () => Math.floor(chance() * 500) * second);
  return times
    .sort((a, b) => a - b)
    .map((queuedAt) => ({
      queuedAt,
      durationMs,
      labels: labelLists[Math.floor(chance() * labelLists.length)]!,
    }));
}

describe("the fleet and its simulation, given the same jobs", () => {
  const cases: readonly [name: string, pool: Partial<Pool>, labelLists: string[][]][] = [
    ["one class, room for all", { max: 50 }, [["linux"]]],
    ["one class, too little room", { max: 3 }, [["linux"]]],
    [
      "three classes, too little room",
      { max: 3 },
      [
        ["linux", "a"],
        ["linux", "b"],
        ["linux", "c"],
      ],
    ],
    ["warm machines", { max: 6, warm: 2 }, [["linux", "a", "b", "c"]]],
    [
      "warm machines, and little patience with idle ones",
      { max: 4, warm: 1, min: 2, idleSeconds: 20 },
      [["linux", "a", "b", "c"]],
    ],
    [
      "warm machines that jobs of fewer labels take too",
      { max: 5, warm: 1, idleSeconds: 30 },
      [
        ["linux", "a"],
        ["linux", "a", "b", "c"],
      ],
    ],
  ];
  for (const [name, changes, labelLists] of cases) {
    test(`${name}: the same waits and the same machines`, async () => {
      const pool = samplePool({ labels: ["linux", "a", "b", "c"], ...changes });
      const jobs = randomJobs(1, 20, labelLists);
      const fleet = await inTheFleet(pool, jobs);
      const simulated = inTheSimulation(pool, jobs);
      assert.deepEqual(simulated.waits, fleet.waits);
      // A server's ticks do not begin with the trace: idle machines end up to a tick earlier or
      // later, and the last of them within the trace or not.
      assert.ok(Math.abs(simulated.machines - fleet.machines) <= 1);
      const difference = Math.abs(simulated.machineMs - fleet.machineMs);
      assert.ok(difference <= fleet.machines * 5 * second, `${difference} ms apart`);
    });
  }
});
