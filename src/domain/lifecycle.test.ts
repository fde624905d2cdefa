import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { jobOutcomes, jobStates } from "./job.ts";
import type { JobSighting } from "./job.ts";
import { advanceJob, nextStep, retryDelayMs } from "./lifecycle.ts";
import { isForward, runnerStates } from "./runner.ts";
import { samplePool, sampleRunner, sampleSighting } from "./samples.ts";

const pool = samplePool({ bootDeadlineSeconds: 120, idleSeconds: 300, jobDeadlineSeconds: 3600 });

describe("nextStep", () => {
  test("a claim is asked for until its boot deadline", () => {
    const runner = sampleRunner({ state: "claimed", claimedAt: 1000 });
    assert.deepEqual(nextStep(runner, pool, 1000), { do: "create" });
    assert.deepEqual(nextStep(runner, pool, 120_999), { do: "create" });
    assert.deepEqual(nextStep(runner, pool, 121_000), {
      do: "end",
      reason: "the provider did not accept it within 120 s",
    });
  });

  test("a machine that boots has a new deadline from when it was accepted", () => {
    const runner = sampleRunner({ state: "asked", claimedAt: 1000, askedAt: 50_000 });
    assert.deepEqual(nextStep(runner, pool, 50_000), { do: "wait", until: 170_000 });
    assert.deepEqual(nextStep(runner, pool, 170_000), {
      do: "end",
      reason: "it did not come up within 120 s",
    });
  });

  test("an idle machine ends after an hour, a warm pool's after a day", () => {
    const runner = sampleRunner({ state: "up", upAt: 0 });
    const hourMs = 3_600_000;
    assert.deepEqual(nextStep(runner, pool, 1), { do: "wait", until: hourMs });
    assert.equal(nextStep(runner, pool, hourMs).do, "end");
    const warmLater = [{ days: [], from: 0, to: 60, warm: 1 }];
    for (const changes of [{ warm: 1 }, { min: 1 }, { schedule: warmLater }]) {
      const until = 24 * hourMs;
      assert.deepEqual(nextStep(runner, samplePool(changes), 1), { do: "wait", until });
    }
    const neverWarm = samplePool({ schedule: [{ days: [], from: 0, to: 60, warm: 0 }] });
    assert.deepEqual(nextStep(runner, neverWarm, 1), { do: "wait", until: hourMs });
    const patient = samplePool({ idleSeconds: 7200 });
    assert.deepEqual(nextStep(runner, patient, 1), { do: "wait", until: 2 * hourMs });
  });

  test("a job over its deadline is ended a minute after its guest should have", () => {
    const runner = sampleRunner({ state: "started", startedAt: 5000 });
    assert.deepEqual(nextStep(runner, pool, 5000), { do: "wait", until: 3_665_000 });
    assert.deepEqual(nextStep(runner, pool, 3_665_000), {
      do: "end",
      reason: "its job ran longer than 3600 s and its guest did not end it",
      outcome: "timed_out",
    });
  });

  test("what ended is removed, and what is gone is left alone for ever", () => {
    for (const some of [pool, null]) {
      assert.deepEqual(nextStep(sampleRunner({ state: "ended" }), some, 1), { do: "remove" });
      const gone = sampleRunner({ state: "gone" });
      assert.deepEqual(nextStep(gone, some, 1e15), { do: "wait", until: null });
    }
  });

  test("of a pool no longer configured, only a running job is waited for", () => {
    for (const state of ["claimed", "asked", "up"] as const) {
      const step = nextStep(sampleRunner({ state }), null, 1000);
      assert.deepEqual(step, { do: "end", reason: "pool small is no longer configured" });
    }
    const started = sampleRunner({ state: "started", startedAt: 0 });
    assert.deepEqual(nextStep(started, null, 1), { do: "wait", until: (6 * 3600 + 60) * 1000 });
  });

  test("no state waits for ever, whatever times are missing, but for the last", () => {
    const time = fc.option(fc.nat(1e9));
    const runners = fc.record({
      state: fc.constantFrom(...runnerStates),
      claimedAt: fc.nat(1e9),
      askedAt: time,
      upAt: time,
      handedAt: time,
      startedAt: time,
      finishedAt: time,
      endedAt: time,
    });
    const pools = fc.constantFrom(pool, samplePool({ warm: 1 }), null);
    fc.assert(
      fc.property(runners, pools, fc.nat(1e9), (changes, some, now) => {
        const runner = sampleRunner(changes);
        const step = nextStep(runner, some, now);
        if (step.do !== "wait") return;
        if (step.until === null) {
          assert.equal(runner.state, "gone");
          return;
        }
        assert.ok(step.until > now);
        const next = nextStep(runner, some, step.until).do;
        assert.ok(next === "end" || next === (runner.state === "ended" ? "remove" : "begin"), next);
      }),
    );
  });

  test("a job that only the guest has told of begins when its forge had time to tell it", () => {
    const up = sampleRunner({ state: "up", upAt: 1000, handedAt: 1500, startedAt: 2000 });
    assert.deepEqual(nextStep(up, pool, 3000, 5000), { do: "wait", until: 7000 });
    assert.equal(nextStep(up, pool, 7000, 5000).do, "begin");
  });
});

test("runner states only move forward", () => {
  assert.ok(isForward("claimed", "gone"));
  assert.ok(!isForward("up", "up"));
  assert.ok(!isForward("ended", "started"));
});

const waiting = sampleSighting();
const started = sampleSighting({ state: "started", runner: "m1-small-a", startedAt: 2000 });
const ended = sampleSighting({
  state: "ended",
  outcome: "success",
  runner: "m1-small-a",
  startedAt: 2000,
  endedAt: 3000,
});

describe("advanceJob", () => {
  test("the first sighting is the job", () => {
    assert.deepEqual(advanceJob(undefined, started), { changed: true, changes: started });
  });

  test("a sighting further on brings only what is new", () => {
    assert.deepEqual(advanceJob(waiting, started), {
      changed: true,
      changes: { state: "started", runner: "m1-small-a", startedAt: 2000 },
    });
    assert.deepEqual(advanceJob(started, ended).changes, {
      state: "ended",
      outcome: "success",
      endedAt: 3000,
    });
  });

  test("doubled and late sightings change nothing", () => {
    for (const [known, late] of [
      [waiting, waiting],
      [started, waiting],
      [ended, started],
      [ended, ended],
      [ended, { ...ended, outcome: "failure" as const, endedAt: 9000 }],
    ] as const) {
      assert.deepEqual(advanceJob(known, late), { changed: false, changes: {} });
    }
  });

  test("a late fact fills what was not known", () => {
    const cut = { ...ended, startedAt: null, runner: null };
    assert.deepEqual(advanceJob(cut, started), {
      changed: true,
      changes: { startedAt: 2000, runner: "m1-small-a" },
    });
    assert.deepEqual(advanceJob({ ...ended, outcome: null }, ended).changes, {
      outcome: "success",
    });
  });

  test("an address that came late is kept", () => {
    const url = "https://forge.example/acme/widget/1";
    assert.deepEqual(advanceJob(started, { ...waiting, url }).changes, { url });
    const work = {
      source: { kind: "none" as const },
      command: ["true"],
      environment: {},
      timeoutSeconds: 60,
      artifacts: [],
    };
    assert.deepEqual(advanceJob(started, { ...waiting, work }).changes, { work });
    assert.equal(advanceJob({ ...waiting, url }, waiting).changed, false);
  });

  test("a waiting job's start, as GitHub gives it, is not believed", () => {
    const claims = { ...waiting, startedAt: 1000, endedAt: 1000, runner: "x" };
    assert.equal(advanceJob(waiting, claims).changed, false);
  });

  test("an earlier attempt says nothing, a later one is another job", () => {
    const second = sampleSighting({ attempt: 2 });
    assert.equal(advanceJob(second, ended).changed, false);
    assert.deepEqual(advanceJob(ended, second), { changed: true, changes: second });
  });

  test("what the pool was chosen by stays as first seen", () => {
    const other = { ...started, labels: ["gpu"], trust: "fork" as const, name: "x", queuedAt: 5 };
    const job = { ...waiting, ...advanceJob(waiting, other).changes };
    assert.deepEqual(job.labels, waiting.labels);
    assert.equal(job.trust, "trusted");
    assert.equal(job.queuedAt, 1000);
  });

  const sightings: fc.Arbitrary<JobSighting> = fc
    .record({
      attempt: fc.integer({ min: 1, max: 2 }),
      state: fc.constantFrom(...jobStates),
      outcome: fc.option(fc.constantFrom(...jobOutcomes)),
      runner: fc.option(fc.constantFrom("a", "b")),
      startedAt: fc.option(fc.nat(9)),
      endedAt: fc.option(fc.nat(9)),
    })
    .map((changes) => sampleSighting(changes));

  function merge(all: readonly JobSighting[]): JobSighting | undefined {
    let job: JobSighting | undefined;
    for (const sighting of all) {
      const changes = advanceJob(job, sighting).changes;
      job = job === undefined ? sighting : { ...job, ...changes };
    }
    return job;
  }

  test("never goes back, keeps its outcome, and says truly whether it changed", () => {
    fc.assert(
      fc.property(fc.array(sightings, { minLength: 1 }), sightings, (all, next) => {
        const job = merge(all)!;
        const step = advanceJob(job, next);
        const after = { ...job, ...step.changes };
        assert.equal(step.changed, Object.keys(step.changes).length > 0);
        assert.equal(advanceJob(after, next).changed, false, "twice is once");
        if (after.attempt !== job.attempt) return;
        assert.ok(jobStates.indexOf(after.state) >= jobStates.indexOf(job.state));
        for (const field of ["outcome", "runner", "startedAt", "endedAt"] as const) {
          if (job[field] !== null) assert.equal(after[field], job[field]);
        }
      }),
    );
  });

  test("ends in the same state whatever order the sightings came in", () => {
    const shuffled = fc
      .array(sightings, { minLength: 1 })
      .chain((all) =>
        fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length })),
      );
    fc.assert(
      fc.property(shuffled, ([all, other]) => {
        const [a, b] = [merge(all)!, merge(other)!];
        assert.deepEqual([a.attempt, a.state], [b.attempt, b.state]);
      }),
    );
  });
});

describe("retryDelayMs", () => {
  test("grows to five minutes and never below a second", () => {
    assert.equal(retryDelayMs(0, 1), 1000);
    assert.equal(retryDelayMs(1, 1), 2000);
    assert.equal(retryDelayMs(5, 0), 1000);
    assert.equal(retryDelayMs(5, 0.5), 16_500);
    assert.equal(retryDelayMs(9, 1), 300_000);
    assert.equal(retryDelayMs(1e9, 1), 300_000);
  });

  test("has bounds, and never falls with another failure", () => {
    const chance = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.nat(), chance, (tries, random01) => {
        const delay = retryDelayMs(tries, random01);
        assert.ok(Number.isInteger(delay) && delay >= 1000 && delay <= 300_000);
        assert.ok(retryDelayMs(tries + 1, random01) >= delay);
      }),
    );
  });
});
