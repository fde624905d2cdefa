import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../../../domain/errors.ts";
import type { JobSighting } from "../../../domain/job.ts";
import { sampleRunner } from "../../../domain/samples.ts";
import { FakeScaleSets } from "../fake/scale-set.ts";
import { openWorld, type GithubWorld, type WorldSettings } from "../fake/world.ts";

const never = new AbortController().signal;
const context = { accept: ["trusted"], jobDeadlineSeconds: 60 } as const;

/** A forge that listens to a scale set of a fake service. */
class Scene {
  world!: GithubWorld;
  sets!: FakeScaleSets;
  readonly told: JobSighting[] = [];
  readonly logged: string[] = [];
  /** What storing does first. */
  storing: () => Promise<void> = async () => {};
  readonly #stop = new AbortController();
  #listening: Promise<void> = Promise.resolve();

  static async open(settings: Partial<WorldSettings> = {}): Promise<Scene> {
    const scene = new Scene();
    scene.world = await openWorld({
      now: Date.now,
      log: (message) => scene.logged.push(message),
      ...settings,
      options: { by: ["scaleset"], scaleset: { name: "mayfly-set" }, ...settings.options },
    });
    scene.sets = new FakeScaleSets(scene.world.fake);
    return scene;
  }

  listen(): Promise<void> {
    const { forge } = this.world;
    assert.ok(forge.listen !== undefined);
    this.#listening = forge.listen(async (sightings) => {
      await this.storing();
      this.told.push(...sightings);
    }, this.#stop.signal);
    this.#listening.catch(() => {});
    return this.#listening;
  }

  async hangUp(): Promise<void> {
    this.#stop.abort();
    await this.#listening.catch(() => {});
  }

  async close(): Promise<void> {
    await this.hangUp();
    await this.world.close();
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    const end = Date.now() + 100_000;
    while (!holds()) {
      assert.ok(Date.now() < end, `never: ${what}`);
      await sleep(10);
    }
  }
}

async function within(
  run: (scene: Scene) => Promise<void>,
  settings: Partial<WorldSettings> = {},
): Promise<void> {
  const scene = await Scene.open(settings);
  try {
    await run(scene);
  } finally {
    await scene.close();
  }
}

function job(messageType: string, more: object = {}): object {
  return {
    messageType,
    runnerRequestId: 0,
    repositoryName: "widget",
    ownerName: "acme",
    jobId: "8a4c1d5e-0000-4000-8000-000000000001",
    jobDisplayName: "build",
    workflowRunId: 77,
    eventName: "push",
    requestLabels: ["mayfly-set"],
    queueTime: "2026-03-01T10:00:00Z",
    scaleSetAssignTime: "2026-03-01T10:00:01Z",
    runnerAssignTime: "0001-01-01T00:00:00",
    finishTime: "0001-01-01T00:00:00Z",
    ...more,
  };
}

const states = (told: readonly JobSighting[]): string[] => told.map(({ state }) => state);

describe("a scale set's queue", () => {
  test("tells a job's life; what was stored is acknowledged, in that order", () =>
    within(async (scene) => {
      const { sets } = scene;
      const acknowledged: number[] = [];
      scene.storing = async () => void acknowledged.push(sets.acknowledged.length);
      void scene.listen();
      sets.say([job("JobAvailable", { runnerRequestId: 12 })]);
      await scene.until("the first acknowledgement", () => sets.acknowledged.length === 1);
      assert.deepEqual(sets.acquired, [[12]]);
      assert.equal(scene.told.length, 0, "on offer is not yet ours");
      sets.say([job("JobAssigned")], { totalAssignedJobs: 1 });
      await scene.until("it waits", () => scene.told.length === 1);
      assert.equal((await scene.world.forge.poll(never)).length, 1, "the poll shows it too");
      const runnerAssignTime = "2026-03-01T10:00:30Z";
      sets.say([job("JobStarted", { runnerName: "m1-p-1", runnerId: 5, runnerAssignTime })]);
      const over = {
        result: "succeeded",
        runnerName: "m1-p-1",
        finishTime: "2026-03-01T10:01:00Z",
      };
      sets.say([job("JobCompleted", over), { messageType: "JobPondered" }, 7]);
      await scene.until("all are acknowledged", () => sets.acknowledged.length === 4);
      assert.deepEqual(states(scene.told), ["waiting", "started", "ended"]);
      assert.equal(new Set(scene.told.map(({ externalId }) => externalId)).size, 1);
      const [waiting, started, ended] = scene.told;
      assert.equal(waiting?.trust, "trusted");
      assert.equal(waiting?.queuedAt, Date.parse("2026-03-01T10:00:00Z"));
      assert.equal(started?.runner, "m1-p-1");
      assert.deepEqual([ended?.outcome, ended?.runner], ["success", "m1-p-1"]);
      assert.deepEqual(acknowledged, [1, 2, 3], "each only after what it tells is stored");
      assert.deepEqual(await scene.world.forge.poll(never), []);
      assert.ok(sets.capacities.every((each) => each === "100"));
      assert.equal(sets.lastIds[0], null);
      assert.deepEqual(
        sets.sets.map(({ name }) => name),
        ["mayfly-set"],
      );
    }));

  test("what could not be stored comes again, and is acknowledged once", () =>
    within(async (scene) => {
      const { sets } = scene;
      let failures = 1;
      scene.storing = async () => {
        if (failures-- > 0) throw new MayflyError("unavailable", "the disk is full");
      };
      const id = sets.say([job("JobAssigned")]);
      await assert.rejects(scene.listen(), /the disk is full/);
      assert.deepEqual(sets.acknowledged, []);
      assert.equal(sets.closed, 1, "the next need not wait for the session to run out");
      void scene.listen();
      await scene.until("it is acknowledged", () => sets.acknowledged.includes(id));
      assert.deepEqual(states(scene.told), ["waiting"]);
    }));

  test("survives byte-order marks, answers without anything, and tokens that end", () =>
    within(async (scene) => {
      const { sets } = scene;
      sets.hasBom = true;
      sets.empties = 3;
      void scene.listen();
      await scene.until("the empty ones are over", () => sets.empties === 0);
      sets.unauthorized = 1;
      sets.say([job("JobAssigned")]);
      await scene.until("it is told", () => scene.told.length === 1);
      await scene.until("it is acknowledged", () => sets.acknowledged.length === 1);
      assert.equal(sets.opened, 1);
      assert.ok(sets.refreshed >= 1, "the session was refreshed, not opened anew");
    }));

  test("a token that is refused again after it was refreshed is a failure", () =>
    within(async (scene) => {
      scene.sets.unauthorized = 2;
      await assert.rejects(scene.listen(), { code: "unauthenticated" });
      assert.equal(scene.sets.closed, 1);
    }));

  test("an expired session is opened anew", () =>
    within(async (scene) => {
      const { sets } = scene;
      sets.expired = 1;
      sets.say([job("JobAssigned")]);
      void scene.listen();
      await scene.until("it is told", () => scene.told.length === 1);
      assert.equal(sets.opened, 2);
    }));

  test("another's session is left alone, and asked again only after a while", () =>
    within(async (scene) => {
      const { sets } = scene;
      sets.conflicts = 1;
      void scene.listen();
      await scene.until("it says so", () => scene.logged.length > 0);
      assert.match(scene.logged.join(), /somebody else listens/);
      assert.equal(sets.opened, 0);
      await sleep(200);
      assert.equal(sets.opened, 0, "not at once");
    }));

  test("a set that is not found is a failure, not the end of anything", () =>
    within(async (scene) => {
      const { sets } = scene;
      sets.missing = 1;
      await assert.rejects(scene.listen(), { code: "not_found" });
      sets.say([job("JobAssigned")]);
      void scene.listen();
      await scene.until("it is told", () => scene.told.length === 1);
      assert.equal(sets.sets.length, 1, "and no second one was made");
    }));

  test("a job that nobody picked up and that comes again is another attempt", () =>
    within(async (scene) => {
      const { sets } = scene;
      void scene.listen();
      sets.say([job("JobAssigned")]);
      sets.say([job("JobCompleted", { result: "canceled", runnerName: "" })]);
      sets.say([job("JobAssigned")]);
      await scene.until("all is told", () => scene.told.length === 3);
      assert.deepEqual(
        scene.told.map(({ state, attempt }) => `${state} ${attempt}`),
        ["waiting 1", "ended 1", "waiting 2"],
      );
    }));

  test("counts are the truth: none assigned is none open", () =>
    within(async (scene) => {
      const { sets, world } = scene;
      void scene.listen();
      sets.say([job("JobAssigned")], { totalAssignedJobs: 1 });
      await scene.until("it is told", () => scene.told.length === 1);
      await scene.until("it is acknowledged", () => sets.acknowledged.length === 1);
      assert.equal((await world.forge.poll(never)).length, 1);
      sets.say([], { totalAssignedJobs: 0 });
      await scene.until("that is acknowledged", () => sets.acknowledged.length === 2);
      assert.deepEqual(await world.forge.poll(never), []);
    }));

  test("a pull request's code is a stranger's unless its run says otherwise", () =>
    within(async (scene) => {
      const { sets, world } = scene;
      const { state } = world.fake;
      const widget = state.repository("widget");
      const own = state.run(widget, widget, "pull_request");
      const fork = state.run(widget, state.repository("stranger/widget"), "pull_request");
      void scene.listen();
      const of = (workflowRunId: number, jobId: string): object =>
        job("JobAssigned", { workflowRunId, jobId, eventName: "pull_request" });
      sets.say([of(own.id, "a"), of(fork.id, "b"), of(999_999, "c")]);
      await scene.until("all are told", () => scene.told.length === 3);
      assert.deepEqual(
        scene.told.map(({ trust }) => trust),
        ["trusted", "fork", "fork"],
      );
    }));

  test("after a restart, a run that is over ends its jobs, and one that is not does not", () =>
    within(async (scene) => {
      const { forge, fake } = scene.world;
      const { state } = fake;
      const widget = state.repository("widget");
      const run = state.run(widget, widget);
      const other = state.job(run, ["ubuntu-latest"]);
      const known = { externalId: `s${run.id}-8a4c`, attempt: 1, repository: "acme/widget" };
      assert.equal((await forge.find?.(known, never))?.state, "waiting");
      assert.equal((await forge.poll(never)).length, 1, "known again");
      state.end(other, "success");
      const found = await forge.find?.(known, never);
      assert.deepEqual([found?.state, found?.outcome], ["ended", "lost"]);
      assert.equal(await forge.find?.({ ...known, externalId: "s1-x" }, never), null);
    }));

  test("is closed when its signal says so, also while it waits", () =>
    within(async (scene) => {
      const { sets } = scene;
      const listening = scene.listen();
      await scene.until("it listens", () => sets.capacities.length > 0);
      await scene.hangUp();
      await listening;
      assert.equal(sets.closed, 1);
    }));
});

describe("a scale set", () => {
  const runner = (labels: readonly string[]) => sampleRunner({ name: "m1-p-1", labels });

  test("signs in by a chain of tokens, again before the last one ends", () =>
    within(async (scene) => {
      const { forge, fake } = scene.world;
      scene.sets.early = 2;
      await forge.handOver?.(runner(["mayfly-set"]), context, never);
      assert.equal(scene.sets.signIns, 3, "a fresh token is not known everywhere at once");
      await forge.remove("m1-p-1", never);
      await forge.handOver?.(runner(["mayfly-set"]), context, never);
      assert.equal(scene.sets.signIns, 3);
      assert.deepEqual(
        [...fake.state.runners.values()].map(({ name }) => name),
        ["m1-p-1"],
      );
    }));

  test("does so for each call when its tokens end at once", () =>
    within(async (scene) => {
      scene.sets.tokenSeconds = 30;
      await scene.world.forge.handOver?.(runner(["mayfly-set"]), context, never);
      const before = scene.sets.signIns;
      await scene.world.forge.handOver?.(runner(["mayfly-set"]), context, never);
      assert.ok(scene.sets.signIns > before);
    }));

  test("registers its own runners, others the API does, and takes a name over", () =>
    within(async (scene) => {
      const { forge, fake } = scene.world;
      const configOf = async (labels: readonly string[]): Promise<string> => {
        const orders = await forge.handOver?.(runner(labels), context, never);
        const file = orders?.files.find(({ path }) => path === "jitconfig");
        return Buffer.from(file?.content ?? "", "base64").toString();
      };
      assert.match(await configOf(["Mayfly-Set"]), /^set /);
      assert.match(await configOf(["mayfly-set"]), /^set /);
      assert.equal(fake.state.runners.size, 1);
      assert.doesNotMatch(await configOf(["self-hosted", "linux"]), /^set /);
      assert.equal(fake.state.runners.size, 1);
    }));

  test("its jobs are told by nobody else", () =>
    within(
      async (scene) => {
        const { forge } = scene.world;
        const queued = await scene.world.queue({ labels: ["mayfly-set"], trust: "trusted" });
        const other = await scene.world.queue({ labels: ["linux"], trust: "trusted" });
        const { sightings, note } = await forge.verify(await scene.world.event(queued));
        assert.deepEqual(sightings, []);
        assert.match(note, /scale set/);
        const polled = await forge.poll(never);
        assert.deepEqual(
          polled.map(({ externalId }) => externalId),
          [other.id],
        );
      },
      { options: { by: ["scaleset", "webhook", "poll"] } },
    ));

  test("a group that is not there is told, and no secret is", () =>
    within(
      async (scene) => {
        await assert.rejects(scene.listen(), (error) => {
          assert.ok(error instanceof MayflyError && error.code === "not_found");
          for (const secret of scene.world.secrets()) {
            assert.ok(!`${error.stack} ${JSON.stringify(error)}`.includes(secret));
          }
          return true;
        });
      },
      { options: { group: "nope" } },
    ));
});
