import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { cost } from "../../domain/money.ts";
import { never, type Policy } from "./policy.ts";
import { sampleRun, samplePrice, sampleSetting, sampleTrace } from "./samples.ts";
import type { Run } from "./run.ts";

const labelLists = [["linux", "x64"], ["linux"], ["x64"], [], ["gpu-nobody-has"]];

const job = fc.record({
  queuedAt: fc.integer({ min: 0, max: 3_600_000 }),
  durationMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 1_800_000 })),
  labels: fc.constantFrom(...labelLists),
});
const jobs = fc.array(job, { minLength: 1, maxLength: 60 });
const limits = fc
  .record({
    max: fc.integer({ min: 1, max: 8 }),
    min: fc.integer({ min: 0, max: 3 }),
    warm: fc.integer({ min: 0, max: 3 }),
    idleSeconds: fc.constantFrom(0, 60, 300),
  })
  .map(({ max, min, warm, idleSeconds }) => ({
    max,
    min: Math.min(min, max),
    warm: Math.min(warm, max),
    idleSeconds,
  }));
const machine = fc.record({
  bootMs: fc.constantFrom([0], [20_000], [5000, 60_000]),
  endingMs: fc.constantFrom(0, 1000, 45_000),
});

/** Machines with a life of their own, two jobs at once: nothing that Mayfly itself does. */
const agents: Policy = {
  name: "agents",
  about: "Agents that stay until they idle, looked at each minute.",
  source: "this test",
  assumptions: [],
  open: (pool) => ({
    machine: { jobsPerMachine: Infinity, slots: 2 },
    wakesOn: never,
    decide: (view) => {
      const wanted = Math.ceil((view.total.waiting - view.freeSlots) / 2) - view.total.booting;
      const idle = [...view.machines("idle")].filter(({ idleSince }) => idleSince !== view.now);
      return {
        nextAt: view.now + 60_000,
        actions: [
          { kind: "start", labelClass: null, count: Math.min(wanted, pool.max) },
          ...idle.map(({ id }) => ({ kind: "drain" as const, machine: id })),
        ],
      };
    },
  }),
};

function sumOf(numbers: Iterable<number>): number {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
}

function unplaced({ unplaced }: Run): number {
  return sumOf(unplaced.values());
}

describe("a simulated trace", () => {
  for (const policy of [undefined, agents]) {
    const name = policy?.name ?? "mayfly";

    test(`${name}: each job that a pool takes runs once, and no other`, () => {
      fc.assert(
        fc.property(jobs, limits, machine, fc.nat(), (jobs, pool, of, seed) => {
          const run = sampleRun(sampleTrace(jobs), sampleSetting([pool], of), policy, seed);
          const refused = jobs.filter(({ labels }) => labels.includes("gpu-nobody-has")).length;
          assert.equal(unplaced(run), refused);
          assert.equal(run.pools[0]?.started, jobs.length - refused);
          assert.equal(run.waitMs.filter((ms) => ms >= 0).length, jobs.length - refused);
          assert.equal(sumOf(run.lives.map(({ jobs }) => jobs)), jobs.length - refused);
          if (policy === undefined) assert.ok(run.lives.every(({ jobs }) => jobs <= 1));
        }),
      );
    });

    test(`${name}: machine time is what was spent booting, busy, idle and ending`, () => {
      fc.assert(
        fc.property(jobs, limits, machine, fc.nat(), (jobs, pool, of, seed) => {
          const trace = sampleTrace(jobs);
          const run = sampleRun(trace, sampleSetting([pool], of), policy, seed);
          const lived = sumOf(run.lives.map(({ startedAt, goneAt }) => goneAt - startedAt));
          const spent = sumOf(Object.values(run.ledger.time).map((steps) => sumOf(steps)));
          assert.equal(spent, lived);
          assert.equal(run.pools[0]?.machineMs, lived);
          if (policy !== undefined) return;
          const ran = jobs.filter(({ labels }) => !labels.includes("gpu-nobody-has"));
          const worked = sumOf(ran.map(({ durationMs }) => durationMs));
          assert.equal(sumOf(run.ledger.time.busy), worked);
        }),
      );
    });

    test(`${name}: the bill is the price of each machine's life, and never too many live`, () => {
      fc.assert(
        fc.property(jobs, limits, machine, fc.nat(), (jobs, pool, of, seed) => {
          const run = sampleRun(sampleTrace(jobs), sampleSetting([pool], of), policy, seed);
          const bill = run.lives.map((life) => cost(samplePrice, life.startedAt, life.goneAt));
          assert.equal(run.pools[0]?.microUsd, sumOf(bill));
          assert.ok(run.ledger.peakMachines <= pool.max);
          assert.ok(run.ledger.peakMachines >= mostAtOnce(run.lives));
        }),
      );
    });
  }

  test("a larger max never makes the whole wait longer, in one class", () => {
    const same = jobs.map((all) => all.map((one) => ({ ...one, labels: ["linux", "x64"] })));
    const fixed = fc.record({ bootMs: fc.constantFrom([0], [20_000]), endingMs: fc.nat(60_000) });
    fc.assert(
      fc.property(same, fixed, fc.integer({ min: 1, max: 6 }), (jobs, of, max) => {
        const trace = sampleTrace(jobs);
        const waited = [max, max + 1, max + 5].map((max) =>
          sumOf(sampleRun(trace, sampleSetting([{ max }], of)).waitMs),
        );
        assert.deepEqual(
          waited,
          waited.toSorted((a, b) => b - a),
        );
      }),
    );
  });

  test("with machines at once and without limit, nobody waits", () => {
    fc.assert(
      fc.property(jobs, (jobs) => {
        const setting = sampleSetting([{ max: 1000 }], { bootMs: [0], endingMs: 0 });
        const { waitMs } = sampleRun(sampleTrace(jobs), setting);
        assert.ok(waitMs.every((ms) => ms === 0 || Number.isNaN(ms)));
      }),
    );
  });

  test("the same chance gives the same run", () => {
    fc.assert(
      fc.property(jobs, limits, machine, fc.nat(), (jobs, pool, of, seed) => {
        const [one, other] = [1, 2].map(() =>
          sampleRun(sampleTrace(jobs), sampleSetting([pool], of), undefined, seed),
        );
        assert.deepEqual(one, other);
      }),
    );
  });

  test("jobs that a closed pool will never start are left waiting, and said", () => {
    const trace = sampleTrace([{ queuedAt: 0, durationMs: 1000 }]);
    for (const policy of [undefined, agents]) {
      const run = sampleRun(trace, sampleSetting([{ max: 0 }]), policy);
      assert.equal(run.pools[0]?.jobs, 1);
      assert.equal(run.pools[0]?.started, 0);
    }
  });

  test("a policy that acts for ever in one moment is stopped", () => {
    const restless: Policy = {
      ...agents,
      open: (pool, provider) => ({
        ...agents.open(pool, provider),
        decide: ({ now }) => ({ actions: [], nextAt: now }),
      }),
    };
    const trace = sampleTrace([{ queuedAt: 0, durationMs: 1000 }]);
    assert.throws(() => sampleRun(trace, sampleSetting(), restless), /come to rest/);
  });

  test("a job goes to the pool that takes it, and a machine takes the jobs its labels let it", () => {
    const trace = sampleTrace([
      { queuedAt: 0, durationMs: 60_000, labels: ["linux"] },
      { queuedAt: 0, durationMs: 60_000, labels: ["gpu"] },
      { queuedAt: 0, durationMs: 60_000, labels: null },
    ]);
    const setting = sampleSetting([{}, { name: "big", labels: ["gpu"] }]);
    const { pools } = sampleRun(trace, setting);
    assert.deepEqual(
      pools.map(({ pool, jobs, started }) => [pool, jobs, started]),
      [
        ["small", 2, 2],
        ["big", 1, 1],
      ],
    );
  });

  test("a warm machine serves a job with fewer labels; the one made for the job idles and goes", () => {
    const jobs = [{ queuedAt: 0, durationMs: 1000, labels: null }];
    const later = { queuedAt: 600_000, durationMs: 1000, labels: ["linux"] };
    const last = { queuedAt: 2_000_000, durationMs: 1000, labels: null };
    const setting = sampleSetting([{ warm: 1 }], { bootMs: [30_000] });
    const { waitMs } = sampleRun(sampleTrace([...jobs, later, last]), setting);
    assert.deepEqual([...waitMs], [30_000, 0, 0]);
  });
});

function mostAtOnce(lives: readonly { startedAt: number; goneAt: number }[]): number {
  // One that goes in the moment in which another starts makes room for it.
  const changes = lives.flatMap(({ startedAt, goneAt }) => [
    { at: startedAt, by: 1 },
    { at: goneAt, by: -1 },
  ]);
  changes.sort((a, b) => a.at - b.at || a.by - b.by);
  let alive = 0;
  let most = 0;
  for (const { by } of changes) most = Math.max(most, (alive += by));
  return most;
}
