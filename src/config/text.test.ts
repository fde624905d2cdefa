import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { parseDays, parseDuration, parseHours, parseListen } from "./text.ts";

test("durations", () => {
  const cases: Record<string, number | null> = {
    "90s": 90,
    "5m": 300,
    "1h30m": 5400,
    "1h 30m": 5400,
    "30d": 2_592_000,
    "31d": null,
    "0s": null,
    "5": null,
    "5 minutes": null,
    m: null,
    "-5m": null,
    "": null,
    "99999999s": null,
  };
  for (const [text, seconds] of Object.entries(cases)) {
    assert.equal(parseDuration(text), seconds, JSON.stringify(text));
  }
});

test("every number of seconds up to a day can be written in hours, minutes and seconds", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 86_400 }), (seconds) => {
      const text = `${Math.floor(seconds / 3600)}h${Math.floor(seconds / 60) % 60}m${seconds % 60}s`;
      assert.equal(parseDuration(text), seconds);
    }),
  );
});

test("addresses", () => {
  assert.deepEqual(parseListen("8420"), { host: "127.0.0.1", port: 8420 });
  assert.deepEqual(parseListen(":8420"), { host: "127.0.0.1", port: 8420 });
  assert.deepEqual(parseListen("0.0.0.0:80"), { host: "0.0.0.0", port: 80 });
  assert.deepEqual(parseListen("[::1]:0"), { host: "::1", port: 0 });
  assert.deepEqual(parseListen("localhost:1"), { host: "localhost", port: 1 });
  for (const text of ["", "host", "::1:80", "a b:80", "127.0.0.1:65536", "http://x:80", "-1"]) {
    assert.equal(parseListen(text), null, text);
  }
});

test("days", () => {
  assert.deepEqual(parseDays("mon-fri"), [1, 2, 3, 4, 5]);
  assert.deepEqual(parseDays("Fri - Mon"), [5, 6, 0, 1]);
  assert.deepEqual(parseDays("saturday"), [6]);
  for (const text of ["", "mo", "mon-", "mon-fri-sat", "munday", "1-5"]) {
    assert.equal(parseDays(text), null, text);
  }
});

test("hours", () => {
  assert.deepEqual(parseHours("08:00-18:00"), { from: 480, to: 1080 });
  assert.deepEqual(parseHours("22:00 - 6:30"), { from: 1320, to: 390 });
  assert.deepEqual(parseHours("0:00-24:00"), { from: 0, to: 1440 });
  for (const text of ["", "8-9", "08:00", "08:00-08:00", "24:00-25:00", "08:60-09:00", "a-b"]) {
    assert.equal(parseHours(text), null, text);
  }
});
