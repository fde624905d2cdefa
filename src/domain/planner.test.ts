import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { labelClass } from "./matching.ts";
import { plan, warmClass } from "./planner.ts";
import type { ClassCount, PlanAction, PoolView } from "./planner.ts";
import type { Pool } from "./pool.ts";
import { samplePool } from "./samples.ts";

/** All that is in a pool: what a store would hold, of which the planner sees an excerpt. */
interface World {
  readonly pool: Pool;
  readonly now: number;
  readonly classes: readonly ClassCount[];
  readonly ending: number;
  readonly backOff: PoolView["backOff"];
}

const now = 1_000_000_000;

function world(classes: Partial<ClassCount>[], changes: Partial<World> = {}): World {
  const filled = classes.map((some, index) => ({
    labelClass: `class-${index}`,
    waiting: 0,
    booting: 0,
    idle: 0,
    busy: 0,
    since: index,
    ...some,
  }));
  return { pool: samplePool(), now, ending: 0, backOff: null, ...changes, classes: filled };
}

function total(counts: readonly ClassCount[], field: "waiting" | "booting" | "idle" | "busy") {
  return counts.reduce((sum, count) => sum + count[field], 0);
}

function alive({ classes, ending }: World): number {
  return total(classes, "booting") + total(classes, "idle") + total(classes, "busy") + ending;
}

function gap({ waiting, booting, idle }: ClassCount): number {
  return waiting - booting - idle;
}

/** What the planner is shown of it: bounded lists, as the store answers them. */
function look(seen: World): PoolView {
  const { pool, classes, ending, backOff } = seen;
  const sorted = classes.toSorted((a, b) => a.since - b.since);
  const room = Math.max(0, pool.max - alive(seen));
  return {
    pool,
    now: seen.now,
    total: {
      waiting: total(classes, "waiting"),
      booting: total(classes, "booting"),
      idle: total(classes, "idle"),
      busy: total(classes, "busy"),
      ending,
    },
    wanting: sorted.filter((count) => gap(count) > 0).slice(0, room + 1),
    surplus: sorted.filter((count) => gap(count) < 0),
    backOff,
  };
}

/** The world once the actions are carried out: claims boot, what is retired is being removed. */
function apply(before: World, actions: readonly PlanAction[]): World {
  const classes = new Map(before.classes.map((count) => [count.labelClass, { ...count }]));
  let ending = before.ending;
  for (const action of actions) {
    if (action.kind === "hold") continue;
    const fresh = { labelClass: action.labelClass, waiting: 0, booting: 0, idle: 0, busy: 0 };
    const count = classes.get(action.labelClass) ?? { ...fresh, since: before.now };
    classes.set(action.labelClass, count);
    if (action.kind === "claim") count.booting += action.count;
    else {
      count[action.state] -= action.count;
      ending += action.count;
    }
  }
  return { ...before, classes: [...classes.values()], ending };
}

function claims(actions: readonly PlanAction[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const action of actions) {
    if (action.kind !== "claim") continue;
    counts[action.labelClass] = (counts[action.labelClass] ?? 0) + action.count;
  }
  return counts;
}

function claimed(actions: readonly PlanAction[]): number {
  return Object.values(claims(actions)).reduce((sum, count) => sum + count, 0);
}

function retired(actions: readonly PlanAction[]) {
  return actions.flatMap((action) =>
    action.kind === "retire" ? [[action.labelClass, action.state, action.count]] : [],
  );
}

function held(actions: readonly PlanAction[]) {
  return actions.find((action) => action.kind === "hold");
}

describe("claims", () => {
  test("an empty pool does nothing", () => {
    assert.deepEqual(plan(look(world([]))), []);
  });

  test("are for the jobs that no machine is there or on its way for", () => {
    const actions = plan(look(world([{ waiting: 5, booting: 1, idle: 1, busy: 2 }])));
    assert.deepEqual(actions, [
      {
        kind: "claim",
        labelClass: "class-0",
        count: 3,
        reason:
          "5 jobs waiting, 1 booting, 1 idle; 4 of at most 10 machines alive " +
          "(1 booting, 1 idle, 2 busy)",
      },
    ]);
  });

  test("stop at the maximum, and the rest is told why", () => {
    const actions = plan(look(world([{ waiting: 9, busy: 4 }], { ending: 2 })));
    assert.deepEqual(claims(actions), { "class-0": 4 });
    assert.deepEqual(held(actions), {
      kind: "hold",
      labelClass: null,
      count: 5,
      until: null,
      reason: "5 jobs waiting: 6 of at most 10 machines alive (4 busy, 2 being removed)",
    });
  });

  test("are dealt out to the classes in turn, the longest waiting first", () => {
    const burst = [
      { waiting: 100, since: 3 },
      { waiting: 1, since: 2 },
      { waiting: 9, since: 1 },
    ];
    const pool = samplePool({ max: 6 });
    assert.deepEqual(claims(plan(look(world(burst, { pool })))), {
      "class-2": 3,
      "class-1": 1,
      "class-0": 2,
    });
    const tight = world(burst, { pool: samplePool({ max: 1 }) });
    assert.deepEqual(claims(plan(look(tight))), { "class-2": 1 });
  });

  test("wait while the provider is left alone, with its reason", () => {
    const backOff = { until: now + 1, reason: "podman: no capacity" };
    const waiting = world([{ waiting: 2 }, { idle: 1 }], { backOff });
    const actions = plan(look(waiting));
    assert.equal(claimed(actions), 0);
    assert.deepEqual(retired(actions), [["class-1", "idle", 1]]);
    assert.deepEqual(held(actions), {
      kind: "hold",
      labelClass: null,
      count: 2,
      until: now + 1,
      reason: "2 jobs waiting: podman: no capacity",
    });
    assert.equal(claimed(plan(look({ ...waiting, now: now + 1 }))), 2);
  });

  test("are none in a closed pool, which says so", () => {
    const pool = samplePool({ max: 0, min: 1, warm: 1 });
    const actions = plan(look(world([{ waiting: 1 }], { pool })));
    assert.equal(claimed(actions), 0);
    assert.equal(held(actions)?.reason, "1 job waiting: pool small is closed (max 0)");
    const backOff = { until: now + 1, reason: "no capacity" };
    assert.equal(held(plan(look(world([{ waiting: 1 }], { pool, backOff }))))?.until, null);
    assert.deepEqual(plan(look(world([], { pool }))), []);
  });
});

describe("machines kept", () => {
  const own = labelClass(["linux", "x64"]);

  test("warm ones stand beside those that have a job", () => {
    const pool = samplePool({ warm: 2 });
    assert.equal(warmClass(pool), own);
    assert.deepEqual(claims(plan(look(world([], { pool })))), { [own]: 2 });
    const half = world([{ labelClass: own, booting: 1, idle: 1, waiting: 1, busy: 3 }], { pool });
    assert.deepEqual(claims(plan(look(half))), { [own]: 1 });
    assert.match(JSON.stringify(plan(look(half))), /2 to be kept warm, 1 ready/);
    const full = world([{ labelClass: own, booting: 1, idle: 1, busy: 3 }], { pool });
    assert.deepEqual(plan(look(full)), []);
  });

  test("come after the jobs, when there is not room for both", () => {
    const pool = samplePool({ warm: 5, max: 3 });
    const actions = plan(look(world([{ waiting: 2 }], { pool })));
    assert.deepEqual(claims(actions), { "class-0": 2, [own]: 1 });
  });

  test("a least number is alive, whatever they do", () => {
    const pool = samplePool({ min: 3 });
    const actions = plan(look(world([{ waiting: 1, busy: 1 }], { pool })));
    assert.deepEqual(claims(actions), { "class-0": 1, [own]: 1 });
    assert.match(JSON.stringify(actions), /at least 3 to be kept alive/);
    assert.deepEqual(plan(look(world([{ busy: 3 }], { pool }))), []);
    assert.deepEqual(retired(plan(look(world([{ idle: 5 }], { pool })))), [["class-0", "idle", 2]]);
  });

  test("more are warm in the hours that say so", () => {
    const schedule = [{ days: [], from: 0, to: 24 * 60, warm: 4 }];
    const pool = samplePool({ warm: 1, schedule });
    assert.equal(claimed(plan(look(world([], { pool })))), 4);
  });
});

describe("machines kept by a forecast", () => {
  const own = labelClass(["linux", "x64"]);
  const pool = samplePool({ warm: 1, max: 10, idleSeconds: 60 });
  const learned = [
    { labelClass: own, count: 3, reason: "3 expected within 2 min" },
    { labelClass: "gpu", count: 2, reason: "2 expected within 2 min" },
  ];

  test("are claimed beside what is ready, and say why", () => {
    const seen = world([{ labelClass: own, idle: 2, waiting: 1 }, { waiting: 1 }], { pool });
    const actions = plan({ ...look(seen), learned });
    assert.deepEqual(claims(actions), { "class-1": 1, [own]: 2, gpu: 2 });
    assert.match(JSON.stringify(actions), /3 expected within 2 min, 1 ready; /);
  });

  test("never are fewer than the configuration says", () => {
    const few = [{ ...learned[0]!, count: 1 }];
    const seen = look(world([], { pool: { ...pool, warm: 2 } }));
    assert.deepEqual(claims(plan({ ...seen, learned: few })), { [own]: 2 });
  });

  test("get only the room that jobs leave", () => {
    const seen = world([{ waiting: 3, busy: 4 }], { pool: { ...pool, max: 8 } });
    assert.deepEqual(claims(plan({ ...look(seen), learned })), { "class-0": 3, [own]: 1 });
  });

  test("are let go once the forecast is over and they idled for long", () => {
    const seen = world(
      [
        { labelClass: own, idle: 3 },
        { labelClass: "gpu", idle: 2 },
      ],
      { pool },
    );
    assert.deepEqual(plan({ ...look(seen), learned }), []);
    assert.deepEqual(retired(plan(look(seen))), [
      [own, "idle", 2],
      ["gpu", "idle", 2],
    ]);
    const early = { ...look(seen), now: 59_000 };
    assert.deepEqual(plan(early), []);
  });

  test("make room for jobs that wait", () => {
    const seen = world(
      [
        { labelClass: "gpu", idle: 2 },
        { waiting: 2, since: 0 },
      ],
      { pool: { ...pool, max: 2, warm: 0 } },
    );
    assert.deepEqual(retired(plan({ ...look(seen), learned })), [["gpu", "idle", 2]]);
  });
});

describe("retirements", () => {
  test("are of machines idle for too long, beyond those wanted", () => {
    const pool = samplePool({ warm: 1, idleSeconds: 300 });
    const own = warmClass(pool);
    const since = now - 300_000;
    const idle = world([{ labelClass: own, idle: 4, waiting: 1, booting: 2, since }], { pool });
    assert.deepEqual(plan(look(idle)), [
      {
        kind: "retire",
        labelClass: own,
        count: 2,
        state: "idle",
        idleForSeconds: 300,
        reason: "4 idle, 2 wanted; an idle machine is kept 300 s",
      },
    ]);
    assert.deepEqual(plan(look({ ...idle, now: now - 1 })), []);
  });

  test("spare what still boots: its job was cancelled, another may be on its way", () => {
    assert.deepEqual(plan(look(world([{ booting: 3 }]))), []);
  });

  test("make room for a job that only the maximum holds back: booting ones first", () => {
    const pool = samplePool({ max: 6 });
    const classes = [
      { waiting: 3 },
      { booting: 1, idle: 1, busy: 1 },
      { booting: 1, idle: 2, waiting: 1 },
    ];
    assert.deepEqual(retired(plan(look(world(classes, { pool })))), [
      ["class-1", "booting", 1],
      ["class-2", "booting", 1],
      ["class-1", "idle", 1],
    ]);
  });

  test("wait for a forge to give an idle machine to a job of another class", () => {
    const full = world([
      { waiting: 1, since: now - 29_999 },
      { idle: 10, since: now - 1 },
    ]);
    assert.deepEqual(retired(plan(look(full))), []);
    assert.deepEqual(retired(plan(look({ ...full, now: now + 1 }))), [["class-1", "idle", 1]]);
    const [action] = plan(look({ ...full, now: now + 1 }));
    assert.deepEqual(action?.kind === "retire" && [action.idleForSeconds, action.reason], [
      0,
      "no job wants it, 1 job of other labels waiting, at most 10 alive",
    ]);
  });

  test("make no room that the provider would not fill", () => {
    const backOff = { until: now + 1, reason: "no capacity" };
    const full = world([{ waiting: 1 }, { idle: 10, since: now }], { backOff });
    assert.deepEqual(retired(plan(look(full))), []);
  });

  test("make room beyond what was free", () => {
    const classes = [{ waiting: 3 }, { idle: 2, since: now }];
    const actions = plan(look(world(classes, { pool: samplePool({ max: 4 }) })));
    assert.deepEqual(claims(actions), { "class-0": 2 });
    assert.deepEqual(retired(actions), [["class-1", "idle", 1]]);
  });

  test("are no different in a pool that is just full", () => {
    const full = world([{ idle: 5 }], { pool: samplePool({ max: 5 }) });
    assert.deepEqual(retired(plan(look(full))), [["class-0", "idle", 5]]);
  });

  test("count on what is being removed already", () => {
    const full = world([{ waiting: 2 }, { idle: 8, since: now }], { ending: 2 });
    assert.deepEqual(retired(plan(look(full))), []);
  });

  test("warm machines make room too: a job that waits is worth more than one that may come", () => {
    const pool = samplePool({ max: 2, warm: 2, min: 2 });
    const own = warmClass(pool);
    const actions = plan(look(world([{ waiting: 1 }, { labelClass: own, idle: 2 }], { pool })));
    assert.deepEqual(retired(actions), [[own, "idle", 1]]);
  });

  test("bring a pool below a lowered maximum at once, but for what has a job", () => {
    const pool = samplePool({ max: 3 });
    const over = world([{ idle: 2, booting: 1, busy: 4, since: now }], { pool });
    assert.deepEqual(retired(plan(look(over))), [
      ["class-0", "booting", 1],
      ["class-0", "idle", 2],
    ]);
    assert.match(JSON.stringify(plan(look(over))), /too many alive, at most 3 alive/);
  });
});

const counts = fc.record({
  waiting: fc.nat(6),
  booting: fc.nat(3),
  idle: fc.nat(3),
  busy: fc.nat(3),
});
const moments = fc.integer({ min: now - 600_000, max: now });
const pools = fc
  .record({
    max: fc.nat(25),
    min: fc.nat(4),
    warm: fc.nat(4),
    idleSeconds: fc.constantFrom(0, 60, 300),
  })
  .map((limits) => samplePool({ ...limits, min: Math.min(limits.min, limits.max) }));
const backOffs = fc.option(
  fc.record(
    { until: fc.integer({ min: now - 5, max: now + 5 }), reason: fc.string() },
    { noNullPrototype: true },
  ),
);
/** Worlds in which the first class is the warm one. */
const worlds = fc
  .record({
    pool: pools,
    classes: fc.uniqueArray(fc.tuple(counts, moments), { maxLength: 6, selector: ([, at]) => at }),
    ending: fc.nat(3),
    backOff: backOffs,
  })
  .map(({ pool, classes, ending, backOff }) => {
    const named = classes.map(([count, since], index) => {
      return index === 0 ? { ...count, since, labelClass: warmClass(pool) } : { ...count, since };
    });
    return world(named, { pool, ending, backOff });
  });

function check(property: (some: World) => void): void {
  fc.assert(fc.property(worlds, property), { numRuns: 2000 });
}

describe("whatever is in a pool", () => {
  test("never more than the maximum is alive", () => {
    check((some) => {
      const after = alive(apply(some, plan(look(some))));
      assert.ok(after <= Math.max(some.pool.max, alive(some)));
    });
  });

  test("every action counts something and says why, in bounded words", () => {
    check((some) => {
      for (const action of plan(look(some))) {
        assert.ok(Number.isInteger(action.count) && action.count > 0);
        assert.ok(action.reason.length > 0 && action.reason.length < 500);
      }
    });
  });

  test("two plans carried out leave nothing to do", () => {
    check((some) => {
      let settled = some;
      for (let round = 0; round < 2; round++) settled = apply(settled, plan(look(settled)));
      const left = plan(look(settled)).filter((action) => action.kind !== "hold");
      assert.deepEqual(left, []);
    });
  });

  test("one more job waiting never means fewer claims", () => {
    fc.assert(
      fc.property(worlds, fc.nat(), (some, which) => {
        if (some.classes.length === 0) return;
        const grown = some.classes[which % some.classes.length]!;
        const more = some.classes.map((count) =>
          count === grown ? { ...count, waiting: count.waiting + 1 } : count,
        );
        const before = plan(look(some));
        const after = plan(look({ ...some, classes: more }));
        assert.ok(claimed(after) >= claimed(before));
        const own = (actions: readonly PlanAction[]) => claims(actions)[grown.labelClass] ?? 0;
        assert.ok(own(after) >= own(before));
      }),
      { numRuns: 2000 },
    );
  });

  test("nothing is claimed while the provider is left alone", () => {
    check((some) => {
      const actions = plan(look({ ...some, backOff: { until: now + 1, reason: "no capacity" } }));
      assert.equal(claimed(actions), 0);
    });
  });

  test("nothing is retired that is wanted or not there", () => {
    check((some) => {
      const after = apply(some, plan(look(some)));
      for (const before of some.classes) {
        const left = after.classes.find((count) => count.labelClass === before.labelClass)!;
        assert.ok(left.booting >= 0 && left.idle >= 0);
        if (gap(before) <= 0) assert.ok(gap(left) <= 0, "still one for each job that waits");
        else assert.ok(left.booting >= before.booting && left.idle === before.idle);
      }
    });
  });

  test("idle machines go only beyond the warm and the least, unless they make room", () => {
    check((some) => {
      const actions = plan(look(some));
      if (retired(actions).length === 0 || held(actions) !== undefined) return;
      const { pool } = some;
      if (alive(some) - some.ending > pool.max) return;
      const after = apply(some, actions);
      assert.ok(alive(after) - after.ending >= pool.min);
      const own = warmClass(pool);
      const [before, left] = [some, after].map(({ classes }) =>
        classes.find((count) => count.labelClass === own),
      );
      if (before !== undefined && left!.idle < before.idle) {
        assert.ok(left!.idle - left!.waiting >= pool.warm);
      }
    });
  });

  test("room is used as long as a job wants it", () => {
    check((some) => {
      if (some.backOff !== null && some.backOff.until > now) return;
      const actions = plan(look(some));
      const room = Math.max(0, some.pool.max - alive(some));
      const wanted = some.classes.reduce((sum, count) => sum + Math.max(0, gap(count)), 0);
      assert.ok(claimed(actions) >= Math.min(room, wanted));
      assert.equal(held(actions) !== undefined, wanted > room, "what gets nothing is told why");
    });
  });

  test("the order of the classes does not matter", () => {
    const shuffled = worlds.chain((some) =>
      fc.tuple(
        fc.constant(some),
        fc.shuffledSubarray([...some.classes], { minLength: some.classes.length }),
      ),
    );
    fc.assert(
      fc.property(shuffled, ([some, classes]) => {
        const view = look(some);
        const sameOrder = (list: readonly ClassCount[]) =>
          classes.filter((count) => list.includes(count));
        const other = {
          ...view,
          wanting: sameOrder(view.wanting),
          surplus: sameOrder(view.surplus),
        };
        assert.deepEqual(plan(other), plan(view));
      }),
    );
  });

  test("what is shown is not changed", () => {
    check((some) => {
      const view = look(some);
      const copy = structuredClone(view);
      plan(view);
      assert.deepEqual(view, copy);
    });
  });
});

/** A minute passes: machines come up, jobs find machines of their class and end, what ends goes. */
function minuteLater(before: World): World {
  const classes = before.classes.map((count) => {
    const idle = count.idle + count.booting;
    const begun = Math.min(count.waiting, idle);
    return {
      ...count,
      waiting: count.waiting - begun,
      booting: 0,
      idle: idle - begun,
      busy: begun,
    };
  });
  const ending = total(before.classes, "busy");
  const living = classes.filter((count) => count.waiting + count.idle + count.busy > 0);
  return { ...before, now: before.now + 60_000, ending, classes: living };
}

test("every job gets its machine in the end, and idle machines go back to what is kept", () => {
  fc.assert(
    fc.property(worlds, (start) => {
      const pool = { ...start.pool, max: Math.max(1, start.pool.max) };
      let some: World = { ...start, pool };
      for (let minute = 0; minute < 200; minute++) {
        some = minuteLater(apply(some, plan(look(some))));
      }
      assert.equal(total(some.classes, "waiting"), 0);
      const kept = Math.min(pool.max, Math.max(pool.min, pool.warm));
      assert.equal(alive(some), kept);
    }),
    { numRuns: 500 },
  );
});

test("a plan costs by the classes it is shown, not by what waits in them", () => {
  function readsOf(classes: number, waiting: number): number {
    let reads = 0;
    const spied = (count: ClassCount) =>
      new Proxy(count, {
        get(target, field) {
          reads++;
          return target[field as keyof ClassCount];
        },
      });
    const many = Array.from({ length: classes }, () => ({ waiting }));
    const view = look(world(many, { pool: samplePool({ max: 1e9 }) }));
    plan({ ...view, wanting: view.wanting.map(spied) });
    return reads;
  }
  assert.equal(readsOf(100, 1), readsOf(100, 1e12));
  assert.ok(readsOf(1000, 5) <= 11 * readsOf(100, 5));
});
