import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import type { JobSighting } from "../../domain/job.ts";
import { sampleRunner } from "../../domain/samples.ts";
import { fakeInstallation } from "../fake-context.ts";
import type { HandOverContext } from "../forge.ts";
import type { FakePull, FakeRun } from "./fake/state.ts";
import { playGitea, type PlayedGitea } from "./testing.ts";

const never = new AbortController().signal;
const trusted: HandOverContext = { accept: ["trusted"], jobDeadlineSeconds: 3600 };
const name = `${fakeInstallation}-p-1`;
const runner = sampleRunner({ name, forge: "acme", labels: ["linux"] });

let open: PlayedGitea[] = [];
async function play(parts: Parameters<typeof playGitea>[0] = {}): Promise<PlayedGitea> {
  const played = await playGitea(parts);
  open.push(played);
  return played;
}
afterEach(async () => {
  for (const { fake } of open) await fake.server.close();
  open = [];
});

function push({ fake }: PlayedGitea, ref = "refs/heads/main", event = "push"): FakeRun {
  return fake.state.addRun({ repository: "acme/rocket", event, ref });
}

async function polled({ forge }: PlayedGitea): Promise<readonly JobSighting[]> {
  return forge.poll(never);
}

const oddRef = "refs/heads/a@refs/pull/1/head";

describe("whose code a job of Gitea's runs", () => {
  const refs: readonly (readonly [string, string, string, JobSighting["trust"]])[] = [
    ["a push to a branch", "push", "refs/heads/main", "trusted"],
    ["a branch whose name cannot be told from a pull request", "push", oddRef, "fork"],
    ["a tag", "push", "refs/tags/v1", "trusted"],
    ["a schedule", "schedule", "refs/heads/main", "trusted"],
    ["pull_request_target", "pull_request_target", "refs/heads/main", "fork"],
    ["a pull request that is gone", "pull_request", "refs/pull/99999/head", "fork"],
    ["a ref of another kind", "push", "refs/for/main", "fork"],
  ];
  for (const [what, event, ref, trust] of refs) {
    it(`${what}: ${trust}`, async () => {
      const world = await play();
      world.fake.state.addJob(push(world, ref, event), ["linux"]);
      assert.deepEqual(
        (await polled(world)).map((job) => job.trust),
        [trust],
      );
    });
  }

  const pulls: readonly (readonly [FakePull["from"], JobSighting["trust"]])[] = [
    ["branch", "trusted"],
    ["fork", "fork"],
    ["deleted", "fork"],
    ["flow", "fork"],
  ];
  for (const [from, trust] of pulls) {
    it(`a pull request from a ${from}: ${trust}`, async () => {
      const world = await play();
      const { number } = world.fake.state.addPull(from);
      const run = push(world, `refs/pull/${number}/head`, "pull_request");
      world.fake.state.addJob(run, ["linux"]);
      assert.equal((await polled(world))[0]?.trust, trust);
    });
  }

  it("is asked once for a run, however many jobs that has", async () => {
    const world = await play();
    const run = push(world);
    for (let n = 0; n < 5; n++) world.fake.state.addJob(run, ["linux"]);
    await polled(world);
    await polled(world);
    const asked = world.fake.server.asked.filter((line) => line.includes("/actions/runs/"));
    assert.equal(asked.length, 1);
  });
});

describe("a job of Gitea's that runs again", () => {
  it("before 1.27, is the same with the next attempt", async () => {
    const world = await play({ version: "1.26.4" });
    const { state } = world.fake;
    const job = state.addJob(push(world), ["linux"]);
    const attempts = async (): Promise<unknown> =>
      (await polled(world)).map(({ attempt, state: now }) => [attempt, now]);
    assert.deepEqual(await attempts(), [[1, "waiting"]]);
    state.start(job, state.register("other", ["linux"], false));
    assert.deepEqual(await attempts(), [[1, "started"]]);
    state.end(job, "failure");
    state.rerun(job);
    assert.deepEqual(await attempts(), [[2, "waiting"]]);
    const known = { externalId: String(job.id), repository: "acme/rocket" };
    const first = await world.forge.find?.({ ...known, attempt: 1 }, never);
    assert.deepEqual([first?.attempt, first?.state, first?.outcome], [1, "ended", "lost"]);
    state.end(job, "cancelled");
    const second = await world.forge.find?.({ ...known, attempt: 2 }, never);
    assert.deepEqual([second?.attempt, second?.outcome], [2, "cancelled"], "it never started");
  });

  it("since 1.27, is another job", async () => {
    const world = await play();
    const { state } = world.fake;
    const job = state.addJob(push(world), ["linux"]);
    state.end(job, "failure");
    const again = state.rerun(job);
    const [shown] = await polled(world);
    assert.deepEqual([shown?.externalId, shown?.attempt], [String(again.id), 2]);
  });
});

describe("lists of Gitea's", () => {
  for (const version of ["1.27.3", "1.26.0"]) {
    it(`lose nothing that stays while their pages shift, ${version}`, async () => {
      const world = await play({ version });
      const { state } = world.fake;
      world.fake.pageMax = 20;
      const run = push(world);
      const jobs = Array.from({ length: 130 }, () => state.addJob(run, ["linux"]));
      const taken: number[] = [];
      world.fake.afterPage = () => {
        // The oldest is taken each time, and a new one comes: their number stays the same.
        const oldest = jobs[taken.length];
        if (oldest === undefined || taken.length >= 8) return;
        state.end(oldest, "success");
        taken.push(oldest.id);
        jobs.push(state.addJob(run, ["linux"]));
      };
      const shown = new Set((await polled(world)).map(({ externalId }) => Number(externalId)));
      const stayed = jobs.slice(0, 130).filter(({ id }) => !taken.includes(id));
      const lost = stayed.filter(({ id }) => !shown.has(id));
      assert.deepEqual(
        lost.map(({ id }) => id),
        [],
      );
    });
  }

  it("may be null, and a job may have no labels", async () => {
    const world = await play();
    world.fake.hasNullLists = true;
    assert.deepEqual(await polled(world), []);
    assert.deepEqual(await world.forge.registrations(never), []);
    world.fake.state.addJob(push(world), null);
    assert.deepEqual((await polled(world))[0]?.labels, []);
  });

  it("do not show what waits for others or for an approval", async () => {
    const world = await play();
    const job = world.fake.state.addJob(push(world), ["linux"], "blocked");
    assert.deepEqual(await polled(world), []);
    const { sightings, note } = await world.forge.verify(world.fake.event(job));
    assert.deepEqual(sightings, []);
    assert.match(note, /waiting/);
  });
});

describe("a runner at Gitea", () => {
  it("is disabled, looked for among the jobs, and only then deleted", async () => {
    const world = await play();
    await world.forge.handOver?.(runner, trusted, never);
    world.fake.server.asked.length = 0;
    assert.equal(await world.forge.remove(name, never), "gone");
    const steps = world.fake.server.asked.map((line) => line.replace(/[?].*|\/\d+$/g, ""));
    assert.deepEqual(steps, [
      "GET /api/v1/orgs/acme/actions/runners",
      "PATCH /api/v1/orgs/acme/actions/runners",
      "GET /api/v1/orgs/acme/actions/jobs",
      "DELETE /api/v1/orgs/acme/actions/runners",
    ]);
  });

  it("is judged by the jobs that run, never by what the server says of it", async () => {
    const world = await play();
    const { state } = world.fake;
    await world.forge.handOver?.(runner, trusted, never);
    const [registered] = [...state.runners.values()];
    assert.ok(registered);
    const job = state.addJob(push(world), ["linux"]);
    state.start(job, registered);
    registered.busy = false;
    assert.equal(await world.forge.remove(name, never), "busy");
    state.end(job, "success");
    await world.forge.handOver?.(runner, trusted, never);
    for (const stale of state.runners.values()) stale.busy = true;
    assert.equal(await world.forge.remove(name, never), "gone");
  });

  it("that takes a job as it is being removed is left alone", async () => {
    const world = await play();
    const { state } = world.fake;
    await world.forge.handOver?.(runner, trusted, never);
    const job = state.addJob(push(world), ["linux"]);
    world.fake.afterPage = () => {
      const [registered] = [...state.runners.values()];
      if (job.status === "waiting" && registered) state.start(job, registered);
    };
    assert.equal(await world.forge.remove(name, never), "busy");
    assert.equal(state.runners.size, 1);
  });

  it("is not registered anew once it has a job", async () => {
    const world = await play();
    const { state } = world.fake;
    await world.forge.handOver?.(runner, trusted, never);
    const [registered] = [...state.runners.values()];
    assert.ok(registered);
    state.start(state.addJob(push(world), ["linux"]), registered);
    const again = world.forge.handOver?.(runner, trusted, never);
    await assert.rejects(again ?? Promise.resolve(), { code: "conflict" });
    assert.deepEqual([...state.runners.values()], [registered]);
  });

  it("refuses forks where its pool does, and only there", async () => {
    const world = await play();
    const orders = await world.forge.handOver?.(runner, trusted, never);
    assert.ok(orders?.files.some(({ path }) => path === "refuse-forks.pl"));
    const both: HandOverContext = { ...trusted, accept: ["trusted", "fork"] };
    const open = await world.forge.handOver?.(runner, both, never);
    assert.ok(open?.files.every(({ path }) => path !== "refuse-forks.pl"));
  });
});

describe("events of Gitea's", () => {
  it("name the runner when its registration is gone already", async () => {
    const world = await play();
    const { state } = world.fake;
    await world.forge.handOver?.(runner, trusted, never);
    const [registered] = [...state.runners.values()];
    assert.ok(registered);
    const job = state.addJob(push(world), ["linux"]);
    state.start(job, registered);
    state.end(job, "success");
    // The event of its start was lost.
    const { sightings } = await world.forge.verify(world.fake.event(job));
    assert.deepEqual([sightings[0]?.state, sightings[0]?.runner], ["ended", name]);
  });

  it("of repositories outside the scope are let be", async () => {
    const world = await play();
    const run = world.fake.state.addRun({
      repository: "rival/rocket",
      event: "push",
      ref: "refs/heads/main",
    });
    const event = world.fake.event(world.fake.state.addJob(run, ["linux"]));
    const { sightings, note } = await world.forge.verify(event);
    assert.deepEqual(sightings, []);
    assert.match(note, /scope/);
  });

  it("that are signed and make no sense are invalid", async () => {
    const world = await play();
    for (const body of [{}, { workflow_job: 7 }, { workflow_job: { id: -1 } }, []]) {
      const event = world.fake.signed("workflow_job", body);
      await assert.rejects(Promise.resolve(world.forge.verify(event)), { code: "invalid" });
    }
  });

  it("while the server is away are refused, so that the poll tells of the job", async () => {
    const world = await play();
    const event = world.fake.event(world.fake.state.addJob(push(world), ["linux"]));
    await world.fake.server.outage("error");
    await assert.rejects(Promise.resolve(world.forge.verify(event)), { code: "unavailable" });
    await world.fake.server.outage(null);
    assert.equal((await polled(world)).length, 1);
  });
});

it("a job that has waited for a day is given up, once", async () => {
  let now = 1_700_000_000_000;
  const world = await play({ now: () => now });
  world.fake.state.addJob(push(world), ["linux"]);
  assert.equal((await polled(world))[0]?.state, "waiting");
  now += 24 * 3600 * 1000 - 1;
  assert.equal((await polled(world))[0]?.state, "waiting");
  now += 1;
  const [old] = await polled(world);
  assert.deepEqual([old?.state, old?.outcome, old?.endedAt], ["ended", "lost", now]);
  await polled(world);
  assert.equal(world.told.length, 1);
});

it("a token that is not good is told as such, and not shown", async () => {
  const world = await play({ token: "another-token" });
  await assert.rejects(polled(world), (error: Error & { code?: string; hint?: string }) => {
    assert.equal(error.code, "unauthenticated");
    assert.match(`${error.message} ${error.hint}`, /401.*token/s);
    assert.ok(!`${error.message} ${error.hint} ${error.stack}`.includes("another-token"));
    return true;
  });
});
