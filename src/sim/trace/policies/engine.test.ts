import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { sampleRun, sampleSetting, sampleTrace } from "../samples.ts";
import { others } from "./index.ts";

const jobs = fc.array(
  fc.record({
    queuedAt: fc.integer({ min: 0, max: 7_200_000 }),
    durationMs: fc.integer({ min: 1000, max: 600_000 }),
  }),
  { minLength: 1, maxLength: 60 },
);
const limits = fc.record({
  max: fc.integer({ min: 1, max: 12 }),
  warm: fc.integer({ min: 0, max: 3 }),
});

for (const policy of others) {
  test(`${policy.name}: runs every job once, within its maximum, whatever comes`, () => {
    fc.assert(
      fc.property(jobs, limits, (someJobs, changes) => {
        const trace = sampleTrace(someJobs);
        const run = sampleRun(trace, sampleSetting([changes]), policy);
        assert.ok(run.waitMs.every((wait) => wait >= 0));
        assert.equal(run.pools[0]?.started, someJobs.length);
        assert.ok(run.ledger.peakMachines <= changes.max);
        const done = run.lives.reduce((sum, life) => sum + life.jobs, 0);
        assert.equal(done, someJobs.length);
      }),
      { numRuns: 40 },
    );
  });

  test(`${policy.name}: without warm machines, a quiet pool comes to cost nothing`, () => {
    const trace = sampleTrace([
      { queuedAt: 0, durationMs: 60_000 },
      { queuedAt: 0, durationMs: 60_000 },
      { queuedAt: 7_200_000, durationMs: 60_000 },
    ]);
    const run = sampleRun(trace, sampleSetting([{ warm: 0 }]), policy);
    const early = run.lives.filter(({ startedAt }) => startedAt < 3_600_000);
    assert.ok(early.length > 0);
    assert.ok(early.every(({ goneAt }) => goneAt < 3_600_000));
  });
}
