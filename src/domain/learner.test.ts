import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { stepMs } from "./forecast.ts";
import { Learner, type Arrivals, type ReadyView } from "./learner.ts";
import { labelClass } from "./matching.ts";
import { warmClass, type ClassCount } from "./planner.ts";
import { samplePool } from "./samples.ts";
import type { WarmBudget } from "./pool.ts";

const hour = 3_600_000;
const day = 24 * hour;
const monday = Date.UTC(2026, 0, 5);
const pool = samplePool();
const own = warmClass(pool);
const perHour = (): number => 1;

/** A first job each third hour, and five more a minute later. */
function bursts(from: number, until: number, key = own): Arrivals[] {
  const arrivals: Arrivals[] = [];
  for (let at = from; at < until; at += stepMs) {
    if (at % (3 * hour) === 0) arrivals.push({ labelClass: key, at, count: 1 });
    if (at % (3 * hour) === 60_000) arrivals.push({ labelClass: key, at, count: 5 });
  }
  return arrivals;
}

function view(now: number, ready = 0, key = own): ReadyView {
  const surplus: ClassCount[] =
    ready === 0
      ? []
      : [{ labelClass: key, waiting: 0, booting: 0, idle: ready, busy: 0, since: 0 }];
  const total = { waiting: 0, booting: 0, idle: ready, busy: 0, ending: 0 };
  return { pool, now, total, surplus };
}

function taught(budget: WarmBudget, days = 7, key = own): Learner {
  const learner = new Learner(budget);
  learner.fold(monday + days * day, bursts(monday, monday + days * day, key));
  return learner;
}

describe("a learner", () => {
  const hours = { unit: "hours", amount: 30 } as const;
  const now = monday + 7 * day;

  test("wants nothing ready in a quiet hour, and the rest of a burst once it has begun", () => {
    const learner = taught({ unit: "hours", amount: 60 });
    assert.deepEqual(learner.targets(view(now - 1), [], perHour), []);
    const first = [{ labelClass: own, at: now, count: 1 }];
    const [target] = learner.targets(view(now + 5000), first, perHour);
    assert.equal(target?.labelClass, own);
    assert.equal(target?.count, 5);
    assert.match(
      target?.reason ?? "",
      /^5 expected within 2 min \(\d+ % likely; 1 job in the last 5 min\)$/,
    );
  });

  test("says nothing while it was not told of the last minutes", () => {
    const learner = taught({ unit: "hours", amount: 60 });
    const late = now + hour;
    const first = [{ labelClass: own, at: late, count: 1 }];
    assert.deepEqual(learner.targets(view(late), first, perHour), []);
    learner.fold(late, []);
    assert.equal(learner.targets(view(late), first, perHour).length, 1);
  });

  test("keeps less ready for a smaller budget", () => {
    const first = [{ labelClass: own, at: now, count: 1 }];
    const counts = [0.001, 30, 3000].map((amount) => {
      const learner = taught({ unit: "hours", amount });
      return learner.targets(view(now), first, perHour)[0]?.count ?? 0;
    });
    assert.deepEqual(
      counts,
      counts.toSorted((a, b) => a - b),
    );
    assert.equal(counts[0], 0);
    assert.ok(counts[2]! >= 5);
  });

  test("counts what stands ready against its budget, and stops at a tenth of it in a day", () => {
    const learner = taught(hours);
    const first = (at: number) => [{ labelClass: own, at, count: 1 }];
    assert.equal(learner.targets(view(now, 4), first(now), perHour).length, 1);
    let at = now;
    while (learner.ledger.stopped(at) === null && at < now + day) {
      at += 5000;
      learner.targets(view(at, 4), [], perHour);
    }
    assert.ok(
      Math.abs(at - now - 0.75 * hour) <= 5000,
      "four machines for three quarters of an hour",
    );
    assert.match(learner.ledger.stopped(at) ?? "", /^3\.0 h are spent today/);
    assert.deepEqual(learner.targets(view(at), first(at), perHour), []);
    assert.equal(learner.ledger.stopped(now + day), null);
  });

  test("what the pool keeps warm by itself is not on the forecast's account", () => {
    const learner = taught(hours);
    const warm = { ...view(now, 4), pool: samplePool({ warm: 4 }) };
    for (let at = now; at < now + hour; at += 5000) {
      learner.targets({ ...warm, now: at }, [], perHour);
    }
    assert.equal(learner.ledger.spent(now + hour), 0);
  });

  test("pays in dollars by the machines' price", () => {
    const learner = taught({ unit: "usd", amount: 1000 });
    for (let at = now; at <= now + hour; at += 5000) learner.targets(view(at, 2), [], () => 0.25);
    assert.ok(Math.abs(learner.ledger.spent(now + hour) - 0.5) < 0.01);
  });

  test("spends again once thirty days have passed", () => {
    const learner = taught(hours);
    for (let on = 0; on < 12; on++) {
      learner.ledger.spend(now + on * day, hour, { promised: 3, actual: 3 });
    }
    assert.match(learner.ledger.stopped(now + 12 * day) ?? "", /30\.0 h are spent in 30 days/);
    assert.equal(learner.ledger.stopped(now + 42 * day), null);
  });

  test("forecasts each class by itself, and no class of a single run", () => {
    const gpu = labelClass(["gpu"]);
    const learner = taught(hours, 7, gpu);
    for (let run = 0; run < 500; run++) {
      const at = now + run * stepMs;
      learner.fold(at + stepMs, [{ labelClass: labelClass([`run-${run}`]), at, count: 9 }]);
    }
    assert.deepEqual(learner.classes, [gpu]);
    const at = now + 500 * stepMs;
    const [target, ...others] = learner.targets(
      view(at),
      [{ labelClass: gpu, at, count: 1 }],
      perHour,
    );
    assert.equal(target?.labelClass, gpu);
    assert.deepEqual(others, []);
  });

  test("knows as much after it was saved and read again", () => {
    const learner = taught(hours);
    learner.ledger.spend(now, hour, { promised: 1, actual: 2 });
    const again = new Learner(hours, learner.save());
    const first = [{ labelClass: own, at: now, count: 1 }];
    assert.deepEqual(
      again.targets(view(now), first, perHour),
      learner.targets(view(now), first, perHour),
    );
    assert.equal(again.ledger.spent(now), 2);
    assert.equal(again.until, learner.until);
  });

  test("begins anew when what was saved is of another version or no text of ours", () => {
    for (const saved of ["", "null", "{}", '{"version":2}', "[1]"]) {
      assert.equal(new Learner(hours, saved).until, null);
    }
  });

  test("its state has a bound", () => {
    const learner = new Learner(hours);
    for (let i = 0; i < 200; i++) {
      const at = monday + i * stepMs;
      learner.fold(
        at + stepMs,
        Array.from({ length: 50 }, (_, n) => ({
          labelClass: labelClass([`l${(i * 7 + n) % 300}`]),
          at,
          count: 1 + (n % 5),
        })),
      );
    }
    assert.ok(learner.classes.length <= 8);
    assert.ok((learner.save() ?? "").length < 100_000);
  });
});
