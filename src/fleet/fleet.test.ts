import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { samplePool } from "../../test/samples.ts";
import { World, type WorldOptions } from "../../test/world.ts";
import { MayflyError, ProviderError } from "../domain/errors.ts";
import { history } from "../store/facts.ts";
import { findJob, listRunners, poolTotal } from "../store/questions.ts";

const open: World[] = [];
async function world(options: WorldOptions = {}): Promise<World> {
  const one = await World.open(options);
  open.push(one);
  return one;
}
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

/** What must hold once all work is over. */
async function assertNothingLeft({ provider, forge, store }: World): Promise<void> {
  assert.deepEqual(provider.alive(), [], "machines left");
  assert.deepEqual([...forge.online.keys()], [], "registrations left");
  assert.deepEqual(
    (await listRunners(store.db)).filter(({ state }) => state !== "gone"),
    [],
    "runners left",
  );
}

test("a job gets a machine, runs, and nothing is left", async () => {
  const one = await world({ pools: [samplePool({ labels: ["linux"] })] });
  one.forge.queue("1", ["linux"]);
  await one.clock.run(1000);
  assert.equal(one.provider.alive().length, 1);
  await one.clock.run(10_000);
  assert.equal((await findJob(one.store.db, "acme-1"))?.state, "started");
  await one.clock.run(60_000);
  assert.equal((await findJob(one.store.db, "acme-1"))?.outcome, "success");
  await assertNothingLeft(one);

  const [runner] = await listRunners(one.store.db);
  const kinds = (await history(one.store.db, runner?.name ?? "")).map(({ kind }) => kind);
  assert.deepEqual(kinds, ["claimed", "asked", "started", "ended", "gone"]);
});

test("a claim is on record before the provider is asked", async () => {
  const one = await world();
  one.provider.script("create", { hang: true });
  one.forge.queue("1");
  await one.clock.run(1000);
  const [runner] = await listRunners(one.store.db);
  assert.equal(runner?.state, "claimed");
  assert.equal(one.provider.calls.create, 1);
});

test("a burst beyond the maximum is served in turn, never beyond it", async () => {
  const one = await world({ pools: [samplePool({ max: 3 })] });
  for (let i = 0; i < 20; i++) one.forge.queue(`${i}`);
  for (let step = 0; step < 60; step++) {
    await one.clock.run(5000);
    assert.ok(one.provider.alive().length <= 3);
  }
  const states = [...one.forge.jobs.values()].map(({ outcome }) => outcome);
  assert.deepEqual(new Set(states), new Set(["success"]));
  await assertNothingLeft(one);
});

test("a repository gets no more at once than its share, and all of its jobs in the end", async () => {
  const caps = { perRepository: 2, perOwner: 3 };
  const one = await world({ pools: [samplePool({ caps, labels: ["a", "b", "c"] })] });
  const queue = (id: string, label: string, repository: string): void =>
    one.forge.queue(id, [label], { repository });
  for (let i = 0; i < 8; i++) queue(`greedy${i}`, "a", "acme/greedy");
  for (let i = 0; i < 3; i++) queue(`other${i}`, "b", "acme/other");
  queue("small", "c", "umbrella/small");
  await one.clock.run(1000);
  assert.equal(one.provider.alive().length, 4);
  const held = await findJob(one.store.db, "acme-greedy7");
  assert.deepEqual([held?.state, held?.pool], ["waiting", null]);
  assert.match(held?.reason ?? "", /2 jobs of acme\/greedy are in pool small already/);
  const total = await poolTotal(one.store.db, "small");
  assert.ok(total.waiting <= 4);
  for (let step = 0; step < 100; step++) {
    await one.clock.run(5000);
    assert.ok(one.provider.alive().length <= 4);
  }
  const states = [...one.forge.jobs.values()].map(({ outcome }) => outcome);
  assert.deepEqual(new Set(states), new Set(["success"]));
  const reasons = (await history(one.store.db, "acme-greedy7")).map(({ reason }) => reason);
  assert.ok(reasons.includes("there is room for it in pool small now"), reasons.join("\n"));
  await assertNothingLeft(one);
});

test("with every event lost the poll still finds the job, its start and its end", async () => {
  const one = await world();
  one.forge.tells = false;
  one.forge.queue("1");
  await one.clock.run(300_000);
  assert.equal((await findJob(one.store.db, "acme-1"))?.outcome, "success");
  await assertNothingLeft(one);
});

test("a create that timed out after its success makes no second machine", async () => {
  const one = await world();
  const lost = new ProviderError("unreachable", "no answer");
  one.provider.script("create", { fail: lost, effect: true });
  one.forge.queue("1");
  await one.clock.run(120_000);
  assert.equal((await listRunners(one.store.db)).length, 1);
  assert.equal((await findJob(one.store.db, "acme-1"))?.outcome, "success");
  await assertNothingLeft(one);
});

for (const kind of ["no_capacity", "quota", "throttled", "unreachable"] as const) {
  test(`a provider that says ${kind} is left alone for a while, then served again`, async () => {
    const one = await world();
    const fail = { fail: new ProviderError(kind, "not now") };
    one.provider.script("create", fail, fail, fail);
    one.forge.queue("1");
    await one.clock.run(900);
    assert.equal(one.provider.calls.create, 1, "not hammered");
    const plan = one.fleet.lastPlan("small");
    if (kind === "no_capacity" || kind === "quota") {
      const hold = plan?.actions.find((action) => action.kind === "hold");
      assert.match(hold?.reason ?? "", /not now/, "the reason is told");
    }
    await one.clock.run(600_000);
    assert.equal((await findJob(one.store.db, "acme-1"))?.outcome, "success");
    await assertNothingLeft(one);
  });
}

test("a request that can never work holds the pool, and says why", async () => {
  const one = await world({
    provider: { always: { create: { fail: new ProviderError("invalid", "no such image") } } },
  });
  one.forge.queue("1");
  await one.clock.run(240_000);
  assert.equal(one.provider.calls.create, 1);
  const hold = one.fleet.lastPlan("small")?.actions.find((action) => action.kind === "hold");
  assert.match(hold?.reason ?? "", /no such image/);
});

test("a machine that never comes up is given up at the boot deadline and replaced", async () => {
  let boots = 0;
  const one = await world({
    provider: {
      guest: (guest) => {
        if (++boots === 1) return;
        const job = one.forge.connect(guest.spec.name, []);
        assert.ok(job !== null);
        one.forge.finish(guest.spec.name);
        guest.exit(0);
      },
    },
  });
  one.forge.queue("1");
  await one.clock.run(110_000);
  assert.equal(boots, 1);
  await one.clock.run(120_000);
  assert.equal(boots, 2);
  await one.clock.run(60_000);
  assert.equal((await findJob(one.store.db, "acme-1"))?.outcome, "success");
  await assertNothingLeft(one);
});

test("a job cancelled while its machine boots frees the machine once it idles", async () => {
  const one = await world();
  one.forge.queue("1");
  await one.clock.run(500);
  one.forge.cancel("1");
  await one.clock.run(30_000);
  assert.equal(one.provider.alive().length, 1, "kept for a job that may come");
  await one.clock.run(120_000);
  await assertNothingLeft(one);
  assert.equal(one.forge.removals.length > 0, true, "deregistered before it was destroyed");
});

test("a runner that took a job unseen is not killed by scale-down", async () => {
  const one = await world({ jobMs: 200_000 });
  one.forge.queue("1");
  await one.clock.run(500);
  one.forge.cancel("1");
  await one.clock.run(20_000);
  one.forge.tells = false;
  const [name] = one.forge.online.keys();
  assert.ok(name);
  one.forge.queue("2");
  // The forge gives it away without telling anybody.
  one.forge.poll = async () => [];
  one.forge.connect(name, []);
  await one.clock.run(120_000);
  assert.deepEqual(one.provider.alive(), [name]);
});

test("a machine that vanishes is noticed by two listings, and its runner ended", async () => {
  const one = await world({ jobMs: 10_000_000 });
  one.forge.queue("1");
  await one.clock.run(60_000);
  const [name] = one.provider.alive();
  assert.ok(name);
  one.provider.vanish(name);
  await one.clock.run(120_000);
  const runner = (await listRunners(one.store.db)).find((it) => it.name === name);
  assert.equal(runner?.state, "gone");
  const reasons = (await history(one.store.db, name)).map(({ reason }) => reason);
  assert.ok(reasons.some((reason) => /no such machine/.test(reason)));
});

test("one listing that forgets a machine changes nothing", async () => {
  const one = await world({ jobMs: 10_000_000 });
  one.forge.queue("1");
  await one.clock.run(45_000);
  const listed = one.provider.list.bind(one.provider);
  one.provider.list = async (signal) => {
    one.provider.list = listed;
    await listed(signal);
    return [];
  };
  await one.clock.run(90_000);
  const [runner] = await listRunners(one.store.db);
  assert.equal(runner?.state, "started");
  assert.equal(one.provider.alive().length, 1);
});

test("a machine of ours that nobody claims is removed, another installation's is not", async () => {
  const one = await world();
  const program = await one.forge.mint();
  const spec = {
    size: samplePool().size,
    image: null,
    network: false,
    trust: ["trusted" as const],
  };
  const { signal } = new AbortController();
  await one.provider.create({ ...spec, name: "mf-small-stray" }, program, signal);
  await one.clock.run(20_000);
  assert.equal(one.provider.alive().length, 1, "one sighting proves nothing");
  await one.clock.run(90_000);
  assert.deepEqual(one.provider.alive(), []);
});

test("a registration that nobody claims is removed after two sightings", async () => {
  const one = await world();
  one.forge.online.set("mf-small-ghost", { labels: [], job: null });
  await one.clock.run(20_000);
  assert.equal(one.forge.online.size, 1);
  await one.clock.run(90_000);
  assert.equal(one.forge.online.size, 0);
});

test("destroy is repeated until the machine is gone, and only then is its cost final", async () => {
  const price = { microUsdPerHour: 3_600_000, quantumSeconds: 1, minimumSeconds: 0 };
  const one = await world({ jobMs: 1000, provider: { price } });
  one.provider.script(
    "destroy",
    { fail: new ProviderError("unreachable", "no answer") },
    { endings: 3 },
  );
  one.forge.queue("1");
  await one.clock.run(3500);
  const [ending] = await listRunners(one.store.db);
  assert.equal(ending?.state, "ended");
  assert.equal(ending?.costMicroUsd, 0);
  await one.clock.run(60_000);
  await assertNothingLeft(one);
  const [gone] = await listRunners(one.store.db);
  assert.ok(gone?.goneAt);
  assert.equal(gone.costMicroUsd, Math.ceil((gone.goneAt - gone.claimedAt) / 1000) * 1000);
});

test("a forge out of reach does not keep machines alive", async () => {
  const one = await world({ jobMs: 5000 });
  one.forge.queue("1");
  await one.clock.run(4000);
  one.forge.isDown = true;
  await one.clock.run(120_000);
  assert.deepEqual(one.provider.alive(), []);
});

test("a forge that mints nothing holds its own pool, not the provider", async () => {
  const one = await world();
  one.forge.isDown = true;
  one.forge.queue("1");
  await one.clock.run(30_000);
  assert.equal(one.provider.calls.create, 0);
  assert.equal(one.fleet.providers()[0]?.backOff, null);
  const hold = one.fleet.lastPlan("small")?.actions.find((action) => action.kind === "hold");
  assert.equal(hold, undefined, "its one job has its claim");
  const [runner] = await listRunners(one.store.db);
  const reasons = (await history(one.store.db, runner?.name ?? "")).map(({ reason }) => reason);
  assert.ok(reasons.some((reason) => /the forge is down/.test(reason)));
  one.forge.isDown = false;
  await one.clock.run(300_000);
  assert.equal((await findJob(one.store.db, "acme-1"))?.outcome, "success");
  await assertNothingLeft(one);
});

test("warm machines are kept ready, and replaced when they are used", async () => {
  const one = await world({ pools: [samplePool({ warm: 2, max: 5 })] });
  await one.clock.run(60_000);
  assert.equal(one.provider.alive().length, 2);
  const { idle } = await poolTotal(one.store.db, "small");
  assert.equal(idle, 2);
  await one.clock.run(600_000);
  assert.equal(one.provider.alive().length, 2, "neither more nor fewer after a while");
});

test("a manager that stops leaves its machines to the next, which brings them home", async () => {
  const one = await world({ jobMs: 40_000 });
  for (const id of ["1", "2", "3"]) one.forge.queue(id);
  await one.clock.run(10_000);
  const stopping = one.fleet.stop();
  await one.clock.run(1000);
  await stopping;
  assert.equal(one.provider.alive().length, 3);
  await one.clock.run(60_000);
  await one.startFleet();
  await one.clock.run(120_000);
  await assertNothingLeft(one);
  assert.equal((await findJob(one.store.db, "acme-2"))?.outcome, "success");
});

test("a manager that dies between claim and answer leaks nothing", async () => {
  const one = await world();
  one.provider.script("create", { hang: true, effect: true });
  one.forge.queue("1");
  await one.clock.run(1000);
  const [before] = await listRunners(one.store.db);
  assert.equal(before?.state, "claimed");
  // It dies without a word: its loops never run again, its lease runs out.
  const dead = one.fleet;
  one.store.onWake(() => {});
  void dead.stop();
  await one.startFleet();
  await one.clock.run(180_000);
  assert.equal((await listRunners(one.store.db)).length, 1, "the same claim was carried on");
  assert.equal((await findJob(one.store.db, "acme-1"))?.outcome, "success");
  await assertNothingLeft(one);
});

test("a job that outlives its deadline is ended, and its machine with it", async () => {
  const one = await world({
    pools: [samplePool({ jobDeadlineSeconds: 600 })],
    jobMs: 10_000_000,
  });
  one.forge.queue("1");
  await one.clock.run(600_000);
  assert.equal(one.provider.alive().length, 1);
  await one.clock.run(120_000);
  assert.deepEqual(one.provider.alive(), []);
});

test("a pool that accepts what its provider cannot isolate is refused", async () => {
  await assert.rejects(
    World.open({ provider: { lends: { accepts: ["trusted"] } } }),
    (error) =>
      error instanceof MayflyError &&
      error.code === "invalid" &&
      error.where === "pools.small.accept",
  );
});
