import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { samplePool } from "./samples.ts";
import { warmAt } from "./schedule.ts";

const sunday = Date.UTC(2026, 0, 4);
const minuteMs = 60_000;
const hour = 60;
function at(day: number, minute: number): number {
  return sunday + (day * 24 * hour + minute) * minuteMs;
}

const everyDay = { days: [], from: 8 * hour, to: 18 * hour, warm: 3 };

test("outside of every window a pool keeps its own number warm", () => {
  const pool = samplePool({ warm: 1, schedule: [everyDay] });
  assert.equal(warmAt(pool, at(0, 8 * hour - 1)), 1);
  assert.equal(warmAt(pool, at(0, 8 * hour)), 3);
  assert.equal(warmAt(pool, at(0, 18 * hour - 1)), 3);
  assert.equal(warmAt(pool, at(0, 18 * hour)), 1);
});

test("a window past midnight belongs to the day it starts on", () => {
  const friday = { days: [5], from: 22 * hour, to: 6 * hour, warm: 2 };
  const pool = samplePool({ schedule: [friday] });
  assert.equal(warmAt(pool, at(5, 23 * hour)), 2);
  assert.equal(warmAt(pool, at(6, 5 * hour)), 2);
  assert.equal(warmAt(pool, at(6, 6 * hour)), 0);
  assert.equal(warmAt(pool, at(6, 23 * hour)), 0);
  assert.equal(warmAt(pool, at(5, 5 * hour)), 0);
});

test("a Saturday's night reaches into Sunday", () => {
  const pool = samplePool({ schedule: [{ days: [6], from: 22 * hour, to: 6 * hour, warm: 2 }] });
  assert.equal(warmAt(pool, at(7, hour)), 2);
  assert.equal(warmAt(pool, at(0, hour)), 2);
  assert.equal(warmAt(pool, at(1, hour)), 0);
});

test("the first window that holds wins, also when it says none", () => {
  const closed = { days: [0], from: 0, to: 24 * hour, warm: 0 };
  const pool = samplePool({ warm: 5, schedule: [closed, everyDay] });
  assert.equal(warmAt(pool, at(0, 12 * hour)), 0);
  assert.equal(warmAt(pool, at(1, 12 * hour)), 3);
});

test("a window and the rest of the day cover each minute once", () => {
  const minutes = fc.integer({ min: 0, max: 24 * hour - 1 });
  fc.assert(
    fc.property(minutes, minutes, minutes, fc.nat(20), (from, to, minute, day) => {
      const window = samplePool({ schedule: [{ days: [], from, to, warm: 1 }] });
      const rest = samplePool({ schedule: [{ days: [], from: to, to: from, warm: 1 }] });
      const both = warmAt(window, at(day, minute)) + warmAt(rest, at(day, minute));
      assert.equal(both, from === to ? 2 : 1);
    }),
  );
});
