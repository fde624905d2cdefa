import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MayflyError } from "../../domain/errors.ts";
import { stepMs } from "../../domain/forecast.ts";
import type { Pool } from "../../domain/pool.ts";
import { makeTrace } from "../../../scripts/make-trace.ts";
import { arrivalsOf } from "./learning.ts";
import { mayfly, mayflyTaught } from "./mayfly.ts";
import { sampleRun, sampleSetting, sampleTrace } from "./samples.ts";
import { splitTrace } from "./split.ts";
import type { Setting } from "./setting.ts";
import type { Trace } from "./trace.ts";

const hour = 3_600_000;
const idle = (run: ReturnType<typeof sampleRun>): number =>
  run.ledger.time.idle.reduce((sum, ms) => sum + ms, 0) / hour;
const mean = (run: ReturnType<typeof sampleRun>): number =>
  run.waitMs.reduce((sum, wait) => sum + wait, 0) / run.waitMs.length / 1000;
const bootMs = [60_000];

/** The trace that ships, without its labels: all of it in one pool. */
function shipped(): Trace {
  const [head = "", ...rows] = makeTrace(1).trim().split("\n");
  const names = head.split(",");
  const [queued, duration] = [names.indexOf("queued_at"), names.indexOf("duration_s")];
  assert.ok(queued >= 0 && duration >= 0, head);
  return sampleTrace(
    rows
      .map((row) => row.split(","))
      .filter((cells) => Number(cells[duration]) > 0)
      .map((cells) => ({
        queuedAt: Date.parse(cells[queued]!),
        durationMs: Number(cells[duration]) * 1000,
      })),
  );
}

function judged(trace: Trace, changes: Partial<Pool>): ReturnType<typeof sampleRun> {
  const setting: Setting = sampleSetting([{ max: 40, jobDeadlineSeconds: 86_400, ...changes }], {
    bootMs,
  });
  const { before, after } = splitTrace(trace, 0.6);
  return sampleRun(after, setting, mayflyTaught(arrivalsOf(before, setting)));
}

describe("a pool that learns", () => {
  const trace = shipped();
  const hours = (amount: number) => ({ learn: { unit: "hours", amount } }) as const;

  test("waits less than one that does not, and less the more it may spend", () => {
    const waits = [judged(trace, {}), judged(trace, hours(100)), judged(trace, hours(1000))].map(
      mean,
    );
    assert.ok(waits[0]! > waits[1]! && waits[1]! > waits[2]!, waits.join(", "));
  });

  test("spends no more than its budget, whatever it is", () => {
    const { after } = splitTrace(trace, 0.6);
    const days = (after.queuedAt[after.count - 1]! - after.queuedAt[0]!) / (24 * hour);
    for (const amount of [10, 100, 500]) {
      const spent = idle(judged(trace, hours(amount)));
      assert.ok(spent <= amount * Math.min(1, days / 30) * 1.5 + 1, `${spent} of ${amount} h`);
    }
  });

  test("the same news give the same run", () => {
    const [one, other] = [judged(trace, hours(200)), judged(trace, hours(200))];
    assert.deepEqual(one.waitMs, other.waitMs);
  });

  test("cannot be limited in dollars where machines are free", () => {
    const setting = sampleSetting([{ learn: { unit: "usd", amount: 5 } }]);
    const box = { ...setting.providers.get("box")!, price: () => free };
    const { after } = splitTrace(trace, 0.99);
    assert.throws(
      () => sampleRun(after, { ...setting, providers: new Map([["box", box]]) }, mayfly),
      (error) => error instanceof MayflyError && error.where === "pools.small.learn",
    );
  });
});

const free = { microUsdPerHour: 0, quantumSeconds: 1, minimumSeconds: 0 };

test("a trace is cut by its time, and no job is on both sides", () => {
  const trace = sampleTrace(
    [0, 10, 59, 60, 61, 100].map((at) => ({ queuedAt: at, durationMs: 1 })),
  );
  const { before, after, at } = splitTrace(trace, 0.6);
  assert.equal(at, 60);
  assert.deepEqual([...before.queuedAt], [0, 10, 59]);
  assert.deepEqual([...after.queuedAt], [60, 61, 100]);
  assert.equal(splitTrace(trace, 0).after.count, 6);
});

test("what a pool was told before is what it would have seen: by step, class and place", () => {
  const trace = sampleTrace([
    { queuedAt: stepMs, durationMs: 1 },
    { queuedAt: 2 * stepMs - 1, durationMs: 1 },
    { queuedAt: 2 * stepMs, durationMs: 1, labels: ["linux"] },
    { queuedAt: 2 * stepMs, durationMs: 1, labels: ["nowhere"] },
  ]);
  const told = arrivalsOf(trace, sampleSetting()).get("small");
  assert.deepEqual(told, [
    { labelClass: '["linux","x64"]', at: stepMs, count: 2 },
    { labelClass: '["linux"]', at: 2 * stepMs, count: 1 },
  ]);
});
