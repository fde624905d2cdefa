import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { samplePool } from "../../../domain/samples.ts";
import type { Pool } from "../../../domain/pool.ts";
import { sampleSetting } from "../samples.ts";
import type { MachineState, MachineView, Policy, PolicyAction, PolicyView } from "../policy.ts";
import { arc } from "./arc.ts";
import { garm } from "./garm.ts";
import { Batches } from "./loop.ts";
import { terraformEphemeral, terraformReused } from "./terraform-aws.ts";
import { woodpecker } from "./woodpecker.ts";

const minute = 60_000;

/** A pool as a test says it is. */
class Scene {
  readonly pool: Pool;
  readonly policy;
  waiting = 0;
  ending = 0;
  ever = { queued: 0, started: 0, ended: 0 };
  machines: MachineView[] = [];
  freeSlots = 0;

  constructor(policy: Policy, changes: Partial<Pool> = {}) {
    this.pool = samplePool(changes);
    this.policy = policy.open(this.pool, sampleSetting().providers.get("box")!);
  }

  queue(count: number): this {
    this.ever.queued += count;
    this.waiting += count;
    return this;
  }

  start(count: number): this {
    this.ever.started += count;
    this.waiting -= count;
    return this;
  }

  has(state: MachineState, count: number, changes: Partial<MachineView> = {}): this {
    for (let i = 0; i < count; i++) {
      this.machines.push({
        id: this.machines.length + 1,
        labelClass: null,
        state,
        isDraining: false,
        startedAt: 0,
        upAt: state === "booting" ? null : 0,
        idleSince: state === "idle" ? 0 : null,
        running: state === "busy" ? 1 : 0,
        done: 0,
        ...changes,
      });
    }
    return this;
  }

  at(now: number): { start: number; stop: number[]; nextAt: number } {
    const count = (state: MachineState) => this.machines.filter((it) => it.state === state).length;
    const { pool, waiting, ending, machines, freeSlots } = this;
    const view: PolicyView = {
      pool,
      now,
      total: {
        waiting,
        booting: count("booting"),
        idle: count("idle"),
        busy: count("busy"),
        ending,
      },
      freeSlots,
      oldestQueuedAt: null,
      ever: { ...this.ever },
      newlyQueued: () => new Map(),
      wanting: () => [],
      surplus: () => [],
      ofClass: () => null,
      machines: (state) => machines.filter((it) => state === undefined || it.state === state),
    };
    const { actions, nextAt } = this.policy.decide(view);
    const of = <K extends PolicyAction["kind"]>(kind: K) =>
      actions.filter((it): it is Extract<PolicyAction, { kind: K }> => it.kind === kind);
    return {
      start: of("start").reduce((sum, it) => sum + it.count, 0),
      stop: of("stop").map(({ machine }) => machine),
      nextAt,
    };
  }
}

describe("GARM's model", () => {
  test("leaves a job alone for 30 s, then makes one runner for it, at a tick of 5 s", () => {
    const scene = new Scene(garm).queue(2);
    assert.deepEqual(scene.at(1_000), { start: 0, stop: [], nextAt: 5_000 });
    assert.equal(scene.at(30_000).start, 0);
    assert.equal(scene.at(35_000).start, 2);
    assert.equal(scene.at(40_000).start, 0, "both jobs are locked");
  });

  test("makes another runner for a job that still waits after ten minutes", () => {
    const scene = new Scene(garm).queue(1);
    scene.at(0);
    assert.equal(scene.at(30_000).start, 1);
    assert.equal(scene.at(30_000 + 10 * minute).start, 0);
    assert.equal(scene.at(60_000 + 10 * minute).start, 1);
  });

  test("forgets jobs that idle runners took", () => {
    const scene = new Scene(garm).queue(3);
    scene.at(0);
    scene.start(2);
    assert.equal(scene.at(30_000).start, 1);
  });

  test("keeps to the maximum, and tries again 30 s later", () => {
    const scene = new Scene(garm, { max: 3 }).has("busy", 2).queue(2);
    scene.at(0);
    assert.equal(scene.at(30_000).start, 1);
    assert.equal(scene.at(55_000).start, 0);
    assert.equal(scene.at(60_000).start, 1);
  });

  test("keeps idle runners, counting those that boot", () => {
    const scene = new Scene(garm, { warm: 3 }).has("booting", 1).has("busy", 4);
    assert.equal(scene.at(5_000).start, 2);
  });

  test("lets half of the surplus go each minute, whatever its age", () => {
    const scene = new Scene(garm, { warm: 1 }).has("idle", 6, { idleSince: minute - 1 });
    assert.deepEqual(scene.at(55_000).stop, []);
    assert.deepEqual(scene.at(60_000).stop, [1, 2, 3]);
    assert.deepEqual(scene.at(60_000).stop, [], "once a tick");
    scene.queue(5);
    assert.deepEqual(scene.at(120_000).stop, [], "five queued jobs want five of them");
  });
});

describe("ARC's model", () => {
  test("has min and assigned jobs together, at once, up to its maximum", () => {
    const scene = new Scene(arc, { warm: 2, max: 6 });
    assert.equal(scene.at(0).start, 2);
    scene.has("idle", 1).has("booting", 1).queue(3);
    assert.equal(scene.at(1).start, 3);
    scene.queue(5);
    assert.equal(scene.at(2).start, 4);
  });

  test("takes idle runners away only after a quiet poll with nothing assigned", () => {
    const scene = new Scene(arc, { warm: 1 }).has("idle", 3).has("busy", 1).queue(1).start(1);
    assert.deepEqual(scene.at(0).stop, []);
    assert.deepEqual(scene.at(minute).stop, [], "a job runs");
    scene.machines.pop();
    scene.ever.ended = 1;
    assert.deepEqual(scene.at(2 * minute).stop, [], "news");
    assert.deepEqual(scene.at(2 * minute + 49_000).stop, []);
    assert.deepEqual(scene.at(2 * minute + 50_000).stop, [1, 2]);
  });
});

describe("the model of terraform-aws-github-runner", () => {
  test("sees a job's event 30 s later and makes an instance for it, started or not", () => {
    const scene = new Scene(terraformEphemeral).queue(3);
    assert.deepEqual(scene.at(1_000), { start: 0, stop: [], nextAt: 31_000 });
    scene.start(2);
    assert.equal(scene.at(31_000).start, 3);
    assert.equal(scene.at(61_000).start, 0);
  });

  test("tries what there was no room for again every 30 s", () => {
    const scene = new Scene(terraformEphemeral, { max: 2 }).queue(3);
    scene.at(1_000);
    assert.equal(scene.at(31_000).start, 2);
    assert.equal(scene.at(61_000).start, 1);
  });

  test("reused: makes none for jobs that have begun, and drops what there is no room for", () => {
    const scene = new Scene(terraformReused, { max: 2 }).queue(4);
    scene.at(1_000);
    scene.start(1);
    assert.equal(scene.at(31_000).start, 2);
    assert.equal(scene.at(61_000).start, 0);
    // The next to start are the two whose events were seen: theirs are not those of the new jobs.
    scene.queue(1).at(62_000);
    scene.start(2);
    assert.equal(scene.at(92_000).start, 1);
  });

  test("tops the pool up each minute with what boots counted", () => {
    const scene = new Scene(terraformEphemeral, { warm: 4 }).has("booting", 1).has("idle", 1);
    assert.equal(scene.at(59_000).start, 0);
    assert.equal(scene.at(60_000).start, 2);
  });

  test("each five minutes ends idle ones older than five, its pool or not", () => {
    const scene = new Scene(terraformEphemeral, { warm: 2 })
      .has("idle", 2, { startedAt: 1 })
      .has("idle", 1, { startedAt: 6 * minute })
      .has("busy", 1, { startedAt: 0 });
    assert.deepEqual(scene.at(9 * minute).stop, []);
    assert.deepEqual(scene.at(10 * minute).stop, [1, 2]);
  });

  test("reused: keeps its idle count of the newest, and a busy one uses it up", () => {
    const scene = new Scene(terraformReused, { warm: 2 })
      .has("idle", 1, { startedAt: 1 })
      .has("idle", 1, { startedAt: 2 })
      .has("busy", 1, { startedAt: 3 });
    assert.deepEqual(scene.at(10 * minute).stop, [1]);
  });
});

describe("the model of Woodpecker's autoscaler", () => {
  test("looks once a minute, and asks for an agent for two jobs", () => {
    const scene = new Scene(woodpecker).queue(5);
    assert.deepEqual(scene.at(59_000), { start: 0, stop: [], nextAt: minute });
    assert.equal(scene.at(minute).start, 3);
  });

  test("does not count agents that boot, so asks again", () => {
    const scene = new Scene(woodpecker, { max: 4 }).queue(5).has("booting", 3);
    assert.equal(scene.at(minute).start, 1);
  });

  test("ends surplus agents after ten minutes without work, at once those that never had any", () => {
    const scene = new Scene(woodpecker)
      .has("idle", 1, { idleSince: 11 * minute, done: 1 })
      .has("idle", 1, { idleSince: 10 * minute, done: 1 })
      .has("idle", 1, { idleSince: 19 * minute });
    scene.freeSlots = 6;
    assert.deepEqual(scene.at(20 * minute).stop, [2, 3]);
  });

  test("keeps its least number of agents", () => {
    const scene = new Scene(woodpecker, { min: 2 }).has("idle", 3);
    scene.freeSlots = 6;
    assert.equal(scene.at(20 * minute).stop.length, 1);
    assert.equal(new Scene(woodpecker, { warm: 3 }).at(minute).start, 2);
  });
});

test("batches keep their order and their jobs", () => {
  const batches = new Batches();
  batches.add(2, 10);
  batches.add(3, 20);
  batches.drop(3);
  assert.equal(batches.nextDueAt, 20);
  const seen: number[] = [];
  batches.due(20, (count) => {
    seen.push(count);
    return { served: 1, servedAgainAt: Infinity, othersAt: 30 };
  });
  assert.deepEqual(seen, [2]);
  batches.drop(1);
  assert.equal(batches.isEmpty, true);
});
