import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { sampleRunner } from "../../domain/samples.ts";
import type { Runner } from "../../domain/runner.ts";
import { fakeInstallation } from "../fake-context.ts";
import type { Forge, HandOverContext, RunnerOrders } from "../forge.ts";
import type { FakeJob } from "./fake/state.ts";
import { playForgejo, type PlayedForgejo } from "./testing.ts";

const never = new AbortController().signal;
const trusted: HandOverContext = { accept: ["trusted"], jobDeadlineSeconds: 3600 };
const start = 1_700_000_000_000;

function runner(n: number): Runner {
  return sampleRunner({ name: `${fakeInstallation}-p-${n}`, labels: ["linux"] });
}

let open: PlayedForgejo[] = [];
let now = start;
async function play(parts: { readonly release?: 15 | 16 } = {}): Promise<PlayedForgejo> {
  now = start;
  const played = await playForgejo({ ...parts, now: () => now });
  open.push(played);
  return played;
}
afterEach(async () => {
  for (const { fake } of open) await fake.server.close();
  open = [];
});

async function hand(forge: Forge, n: number, context = trusted): Promise<RunnerOrders | null> {
  return (await forge.handOver?.(runner(n), context, never)) ?? null;
}

function handleOf(orders: RunnerOrders | null): string | undefined {
  return orders?.command[orders.command.indexOf("--handle") + 1];
}

function job({ fake }: PlayedForgejo, isFork = false, labels = ["linux"]): FakeJob {
  return fake.state.addJob(fake.state.addRun("push", isFork), labels);
}

describe("a runner at Forgejo", () => {
  it("is registered for the oldest job that fits it, and each for another", async () => {
    const world = await play();
    const other = job(world, false, ["windows"]);
    const [first, second] = [job(world), job(world)];
    const handed = await Promise.all([hand(world.forge, 1), hand(world.forge, 2)]);
    assert.deepEqual(new Set(handed.map(handleOf)), new Set([first.handle, second.handle]));
    assert.equal(await hand(world.forge, 3), null, "the third has no job to wait for");
    assert.equal(world.fake.state.runners.size, 2);
    assert.ok(!handed.map(handleOf).includes(other.handle));
  });

  it("gets the same job again when its first answer was lost", async () => {
    const world = await play();
    job(world);
    const first = await hand(world.forge, 1);
    assert.equal(handleOf(await hand(world.forge, 1)), handleOf(first));
    assert.equal(world.fake.state.runners.size, 1);
  });

  it("is never registered for a job whose code its pool refuses", async () => {
    const world = await play();
    const forks = job(world, true);
    assert.equal(await hand(world.forge, 1), null);
    const both: HandOverContext = { ...trusted, accept: ["fork"] };
    assert.equal(handleOf(await hand(world.forge, 1, both)), forks.handle);
  });

  it("leaves its job to another when it did not take it in time", async () => {
    const world = await play();
    const waiting = job(world);
    await hand(world.forge, 1);
    assert.equal(await hand(world.forge, 2), null);
    now += 121_000;
    assert.equal(handleOf(await hand(world.forge, 2)), waiting.handle);
  });

  it("that failed to register leaves its job to the next at once", async () => {
    const world = await play();
    const waiting = job(world);
    await world.forge.poll(never);
    world.fake.afterPage = () => void world.fake.server.outage("error");
    await assert.rejects(hand(world.forge, 1), { code: "unavailable" });
    world.fake.afterPage = () => {};
    await world.fake.server.outage(null);
    assert.equal(handleOf(await hand(world.forge, 2)), waiting.handle);
  });

  it("is busy while its job runs or has just been promised, and gone after", async () => {
    const world = await play();
    const { state } = world.fake;
    const { name } = runner(1);
    const mine = job(world);
    await hand(world.forge, 1);
    assert.equal(await world.forge.remove(name, never), "busy", "it is about to take it");
    const [registered] = [...state.runners.values()];
    assert.ok(registered);
    state.take(registered, mine.handle);
    now += 3600_000;
    assert.equal(await world.forge.remove(name, never), "busy");
    assert.equal(registered.status, "idle", "whatever the server says of it");
    state.end(mine, "success");
    assert.equal(await world.forge.remove(name, never), "gone");
  });

  it("whose job was cancelled is removed at once, one that never came after a while", async () => {
    const world = await play();
    const { name } = runner(1);
    const cancelled = job(world);
    await hand(world.forge, 1);
    world.fake.state.end(cancelled, "cancelled");
    assert.equal(await world.forge.remove(name, never), "gone");
    job(world);
    await hand(world.forge, 1);
    now += 121_000;
    assert.equal(await world.forge.remove(name, never), "gone");
    assert.equal(world.fake.state.runners.size, 0);
  });

  it("is known with its job by a manager that was started anew", async () => {
    const world = await play();
    const { state } = world.fake;
    const mine = job(world);
    await hand(world.forge, 1);
    const [registered] = [...state.runners.values()];
    assert.ok(registered);
    state.take(registered, mine.handle);
    const anew = world.again();
    const [shown] = await anew.poll(never);
    assert.deepEqual([shown?.state, shown?.runner], ["started", runner(1).name]);
    assert.equal(await anew.remove(runner(1).name, never), "busy");
  });

  it("lists are read to their end while they shift", async () => {
    const world = await play();
    const { state } = world.fake;
    for (let n = 0; n < 120; n++) state.register(`${fakeInstallation}-p-${n}`, "", true);
    let pages = 0;
    world.fake.afterPage = () => {
      pages++;
      state.register("somebody-elses", "", false);
    };
    assert.equal((await world.forge.registrations(never)).length, 120);
    assert.ok(pages >= 3);
  });
});

describe("jobs of Forgejo", () => {
  it("are none when the list is null, and known by their run", async () => {
    const world = await play();
    assert.deepEqual(await world.forge.poll(never), []);
    const fork = job(world, true);
    const [shown] = await world.forge.poll(never);
    assert.ok(shown);
    const { externalId, repository, trust, queuedAt, attempt } = shown;
    assert.deepEqual(
      { externalId, repository, trust, queuedAt, attempt },
      {
        externalId: `${fork.run.id}-${fork.id}`,
        repository: "acme/rocket",
        trust: "fork",
        queuedAt: start,
        attempt: 1,
      },
    );
  });

  it("of pull_request_target count as a fork's", async () => {
    const world = await play();
    world.fake.state.addJob(world.fake.state.addRun("pull_request_target", false), ["linux"]);
    assert.equal((await world.forge.poll(never))[0]?.trust, "fork");
  });

  it("that run again have another attempt, and the first is over", async () => {
    const world = await play();
    const again = job(world);
    const [first] = await world.forge.poll(never);
    assert.ok(first);
    world.fake.state.end(again, "failure");
    world.fake.state.rerun(again);
    const [second] = await world.forge.poll(never);
    assert.deepEqual([second?.externalId, second?.attempt], [first.externalId, 2]);
    const found = await world.forge.find?.(first, never);
    assert.deepEqual([found?.attempt, found?.state, found?.outcome], [1, "ended", "lost"]);
  });

  it("are found by their run alone where the server cannot list its jobs", async () => {
    const world = await play({ release: 15 });
    const mine = job(world);
    const [known] = await world.forge.poll(never);
    assert.ok(known);
    assert.equal((await world.forge.find?.(known, never))?.state, "waiting");
    world.fake.state.end(mine, "cancelled");
    const found = await world.forge.find?.(known, never);
    assert.deepEqual([found?.state, found?.outcome], ["ended", "cancelled"]);
    world.fake.state.runs.clear();
    assert.equal(await world.forge.find?.(known, never), null);
  });

  it("that wait for a day are given up", async () => {
    const world = await play();
    job(world);
    await world.forge.poll(never);
    now += 24 * 3600 * 1000;
    const [old] = await world.forge.poll(never);
    assert.deepEqual([old?.state, old?.outcome], ["ended", "lost"]);
  });
});

describe("events of Forgejo", () => {
  it("tell of the end of a run's jobs, each as it ended", async () => {
    const world = await play();
    const { state } = world.fake;
    const run = state.addRun("push", false);
    const [good, bad] = [state.addJob(run, ["linux"]), state.addJob(run, ["linux"])];
    state.end(good, "success");
    state.end(bad, "failure");
    const { sightings } = await world.forge.verify(world.fake.runEnded(run, "failure"));
    assert.deepEqual(
      sightings.map(({ outcome }) => outcome),
      ["success", "failure"],
    );
  });

  it("of other kinds make us look at what waits, but not for each of a swarm", async () => {
    const world = await play();
    job(world);
    const { sightings } = await world.forge.verify(world.fake.push());
    assert.equal(sightings.length, 1);
    const next = await world.forge.verify(world.fake.push());
    assert.deepEqual(next.sightings, []);
    assert.notEqual(next.note, "");
    now += 1000;
    assert.equal((await world.forge.verify(world.fake.push())).sightings.length, 1);
  });

  it("are refused unless they are signed", async () => {
    const world = await play();
    const good = world.fake.push();
    const forged = [
      { ...good, body: Buffer.concat([good.body, Buffer.from(" ")]) },
      { ...good, headers: { ...good.headers, "x-forgejo-signature": undefined } },
      { ...good, headers: { ...good.headers, "x-forgejo-signature": "0".repeat(64) } },
    ];
    for (const request of forged) {
      await assert.rejects(Promise.resolve(world.forge.verify(request)), {
        code: "unauthenticated",
      });
    }
    assert.equal(world.fake.server.asked.length, 0, "nothing is asked for a stranger");
  });
});
