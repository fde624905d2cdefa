import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { outcomeOf, stepFor } from "./outcome.ts";
import { sampleRun, samplePrice, sampleSetting, sampleTrace } from "./samples.ts";

describe("what a run came to", () => {
  const jobs = [
    { queuedAt: 0, durationMs: 60_000 },
    { queuedAt: 10_000, durationMs: 60_000 },
    { queuedAt: 20_000, durationMs: 60_000 },
    { queuedAt: 30_000, durationMs: 60_000, labels: ["gpu"] },
  ];

  test("one machine at a time: waits, machine time and cost, worked out by hand", () => {
    const trace = sampleTrace(jobs);
    const setting = sampleSetting([{ max: 1, jobDeadlineSeconds: 30 }], {
      bootMs: [10_000],
      endingMs: 5000,
    });
    // Each: 10 s boot, 60 s job, 5 s ending; the next is claimed when it is gone.
    const outcome = outcomeOf(trace, sampleRun(trace, setting));
    assert.deepEqual(outcome.wait, {
      p50Seconds: 75,
      p95Seconds: 140,
      p99Seconds: 140,
      meanSeconds: (10 + 75 + 140) / 3,
      longestSeconds: 140,
    });
    assert.deepEqual(outcome.machineSeconds, {
      booting: 30,
      busy: 180,
      idle: 0,
      ending: 10,
      all: 220,
    });
    assert.equal(outcome.machines, 3);
    assert.equal(outcome.peakMachines, 1);
    assert.equal(outcome.peakQueue, 2);
    assert.equal(outcome.unplaced, 1);
    assert.match(outcome.unplacedBecause[0]!.reason, /does not offer "gpu"/);
    assert.equal(outcome.unserved, 0);
    assert.equal(outcome.overlong, 3);
    // 75 s, 75 s and 70 s at a hundredth of a dollar an hour.
    assert.equal(outcome.microUsd, 750 + 750 + 700);
    assert.equal(samplePrice.microUsdPerHour, 36_000);
    const bill = { provider: "box", machines: 3, machineSeconds: 220, microUsd: 2200 };
    assert.deepEqual(outcome.providers, [bill]);
    assert.deepEqual(
      outcome.points.map(({ at, queue, waitP95Ms }) => [at, queue, waitP95Ms]),
      [
        [60_000, 2, 140_000],
        [120_000, 2, null],
        [180_000, 1, null],
        [240_000, 0, null],
      ],
    );
  });

  test("jobs that wait for ever are counted", () => {
    const trace = sampleTrace(jobs);
    const outcome = outcomeOf(trace, sampleRun(trace, sampleSetting([{ max: 0 }])));
    assert.equal(outcome.unserved, 3);
    assert.equal(outcome.unplaced, 1);
    assert.equal(outcome.wait.longestSeconds, 0);
    assert.equal(outcome.peakQueue, 3);
  });

  test("intervals are of lengths that people count in", () => {
    const minutes = (span: number): number =>
      stepFor(sampleTrace([0, span].map((queuedAt) => ({ queuedAt, durationMs: 1 })))) / 60_000;
    assert.deepEqual(
      [0, 3600, 86_400, 86_400 * 30, 86_400 * 3650].map((s) => minutes(s * 1000)),
      [1, 1, 15, 360, (86_400 / 60) * 31],
    );
  });
});
