import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { MayflyError } from "../../domain/errors.ts";
import { readTrace, type ReadOptions } from "./read.ts";
import type { Trace } from "./trace.ts";

const options: ReadOptions = { file: "jobs.csv" };

function read(text: string, more: Partial<ReadOptions> = {}): Promise<Trace> {
  return readTrace([text], { ...options, ...more });
}

function jobsOf({ count, queuedAt, durationMs, kind, kinds }: Trace): unknown[] {
  return Array.from({ length: count }, (_, job) => [
    queuedAt[job],
    durationMs[job],
    kinds[kind[job]!]!.labels,
  ]);
}

async function faultOf(text: string): Promise<MayflyError> {
  const error: unknown = await read(text).then(
    () => assert.fail("it was taken"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof MayflyError);
  return error;
}

const at = Date.UTC(2026, 2, 2, 9, 14);

describe("a trace's columns", () => {
  test("seconds, milliseconds and ISO times are moments, with a zone or in UTC", async () => {
    const moments = [
      String(at / 1000),
      String(at),
      "2026-03-02T09:14:00Z",
      "2026-03-02T09:14",
      "2026-03-02 09:14:00 UTC",
      "2026-03-02 10:14:00.000+01:00",
    ];
    const trace = await read(
      `queued_at,duration_s\n${moments.map((one) => `${one},1.5`).join("\n")}`,
    );
    assert.deepEqual(
      jobsOf(trace),
      moments.map(() => [at, 1500, null]),
    );
  });

  test("an export of a forge is read by its own names", async () => {
    const trace = await read(
      [
        "\ufeffName,Created At,Started At,Completed At,Runs On,Conclusion",
        'test,2026-03-02T09:14:00Z,2026-03-02T09:15:00Z,2026-03-02T09:20:00Z,"linux, x64",success',
        "skip,2026-03-02T09:14:00Z,,,linux,skipped",
        "cancel,2026-03-02T09:14:00Z,,2026-03-02T09:20:00Z,linux,cancelled",
        'gpu,2026-03-02T09:13:00Z,2026-03-02T09:15:00Z,2026-03-02T09:15:30Z,"[""gpu"",""a b""]",failure',
        "",
      ].join("\r\n"),
    );
    assert.deepEqual(jobsOf(trace), [
      [at - 60_000, 30_000, ["gpu", "a b"]],
      [at, 300_000, ["linux", "x64"]],
    ]);
    assert.deepEqual([...trace.leftOut], [["never ran", 2]]);
  });

  test("rows in any order become jobs in the order of queueing", async () => {
    const times = fc.array(fc.nat(1_000_000), { minLength: 1 });
    await fc.assert(
      fc.asyncProperty(times, async (times) => {
        const rows = times.map((time) => `${time},${time / 10}`);
        const trace = await read(["start_s,duration_s", ...rows].join("\n"));
        const sorted = times.toSorted((a, b) => a - b);
        assert.deepEqual(
          [...trace.queuedAt],
          sorted.map((time) => time * 1000),
        );
        assert.deepEqual(
          [...trace.durationMs],
          sorted.map((time) => time * 100),
        );
      }),
    );
  });

  test("labels handed in are every job's, whatever its own", async () => {
    const trace = await read("queued_at,duration_s,labels\n0,1,ubuntu\n1,1,windows\n", {
      labels: ["linux"],
    });
    assert.deepEqual(trace.kinds, [{ labels: ["linux"], trust: "trusted" }]);
  });

  const faults: readonly [text: string, where: string, message: RegExp, hint: RegExp][] = [
    ["", "jobs.csv", /empty/, /names the columns/],
    ["queued_at,duration_s\n", "jobs.csv", /no job/, /a job/],
    ["queued,minutes\n", "jobs.csv:1", /duration_s/, /"minutes"/],
    [
      "queued_att,duration_s\n",
      "jobs.csv:1",
      /queued_at/,
      /Is "queued_att" meant to be "queued_at"/,
    ],
    [
      "queued_at,duration_s\n0,1\n5,-3\n",
      "jobs.csv:3",
      /duration_s "-3" is below zero/,
      /--skip-bad-rows/,
    ],
    ["queued_at,duration_s\nyesterday,1\n", "jobs.csv:2", /queued_at "yesterday"/, /2026-/],
    ["queued_at,duration_s\n2026-13-02T09:14:00Z,1\n", "jobs.csv:2", /is no time/, /2026-/],
    ["queued_at,duration_s\n,1\n", "jobs.csv:2", /is empty/, /2026-/],
    ["queued_at,duration_s\n0,5 min\n", "jobs.csv:2", /"5 min" is no number/, /seconds/],
    ["queued_at,duration_s\n0,99999999\n", "jobs.csv:2", /100 days/, /--skip-bad-rows/],
    ["queued_at,duration_s\n0,1,2\n", "jobs.csv:2", /3 fields, the header 2/, /quotes/],
    ["queued_at,duration_s,labels\n0,1,[linux\n", "jobs.csv:2", /no list of labels/, /JSON/],
    ["queued_at,duration_s,trust\n0,1,friend\n", "jobs.csv:2", /no trust class/, /trusted/],
    ["queued_at,Started,Ended\n0,9,8\n", "jobs.csv:2", /Ended "8" is before its start/, /--skip/],
  ];
  for (const [text, where, message, hint] of faults) {
    test(`refused: ${JSON.stringify(text)}`, async () => {
      const fault = await faultOf(text);
      assert.equal(fault.where, where);
      assert.match(fault.message, message);
      assert.match(fault.hint ?? "", hint);
    });
  }

  test("bad rows are left out and counted where that is wished", async () => {
    const text = "queued_at,duration_s\n0,1\nx,1\n0,-1\n0,1,2\n7,1\n";
    const trace = await read(text, { skipsBadRows: true });
    assert.equal(trace.count, 2);
    assert.deepEqual([...trace.leftOut], [["made no sense", 3]]);
  });
});
