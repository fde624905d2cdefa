import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { samplePool, sampleSighting } from "../../test/samples.ts";
import { World, type WorldOptions } from "../../test/world.ts";
import type { JobOutcome } from "../domain/job.ts";
import { history } from "../store/facts.ts";
import { askCancellation } from "../store/guest.ts";
import { findJob, findRunner, listRunners } from "../store/questions.ts";
import { findRerun, noteInterruption } from "../store/reruns.ts";

const minute = 60_000;
const open: World[] = [];
async function world(options: WorldOptions = {}): Promise<World> {
  const one = await World.open({ jobMs: 20 * minute, ...options });
  open.push(one);
  return one;
}
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

/** A job that runs; resolves to its machine's name. */
async function running(one: World, id = "1"): Promise<string> {
  one.forge.queue(id);
  await one.clock.run(10_000);
  const job = await findJob(one.store.db, one.jobId(id));
  assert.equal(job?.state, "started");
  return job.runner ?? "";
}

/** Its machine is taken back, and after a while its forge finds that it failed. */
async function lose(one: World, name: string, id = "1", how: JobOutcome = "failure") {
  one.provider.takeBack(name);
  await one.clock.run(40_000);
  one.forge.fail(id, how);
}

const state = async (one: World, id = "1") =>
  (await findRerun(one.store.db, one.jobId(id)))?.state ?? null;
const told = async (one: World, id = "1"): Promise<string> =>
  (await history(one.store.db, one.jobId(id))).map(({ reason }) => reason).join("\n");

for (const how of ["without notice", "after a notice"] as const) {
  test(`a job whose machine is taken back ${how} runs again once, on demand`, async () => {
    const one = await world();
    const name = await running(one);
    assert.equal(one.provider.specOf(name)?.isOnDemand, undefined);
    if (how === "after a notice") {
      await one.store.write((tx) => noteInterruption(tx, name, "its provider gave notice"));
    }
    one.provider.takeBack(name);
    await one.clock.run(2 * minute);
    // The forge does not know of it yet, and is not asked before it does.
    assert.equal(await state(one), "wanted");
    assert.deepEqual(one.forge.wishes, []);

    one.forge.fail("1");
    await one.clock.run(2 * minute);
    assert.deepEqual(one.forge.fulfilled, ["1"]);
    assert.equal(await state(one), "done");
    const again = await findJob(one.store.db, "acme-1-again.2");
    assert.equal(again?.state, "started");
    const second = await findRunner(one.store.db, again.runner ?? "");
    assert.equal(second?.isOnDemand, true);
    assert.equal(one.provider.specOf(second.name)?.isOnDemand, true);
    const history = await told(one);
    assert.match(history, /its machine was taken back; it is to be run again once, on demand/);
    assert.match(history, /it was run again as acme-1-again\.2 on mf-small-/);

    // The next machine of these labels is an ordinary one again.
    await one.clock.run(30 * minute);
    const ordinary = await running(one, "2");
    assert.equal(one.provider.specOf(ordinary)?.isOnDemand, undefined);
    assert.deepEqual(one.forge.wishes, ["1"]);
  });
}

test("a second attempt is not run again", async () => {
  const one = await world();
  await lose(one, await running(one));
  await one.clock.run(3 * minute);
  const again = await findJob(one.store.db, "acme-1-again.2");
  assert.equal(again?.state, "started");
  await lose(one, again.runner ?? "", "1-again");
  await one.clock.run(20 * minute);
  assert.deepEqual(one.forge.fulfilled, ["1"]);
});

test("a forge that refuses is asked once, and its reason is told", async () => {
  const one = await world();
  one.forge.rerunAnswer = { kind: "refused", reason: "a person cancelled it" };
  await lose(one, await running(one), "1", "cancelled");
  await one.clock.run(20 * minute);
  assert.deepEqual(one.forge.wishes, ["1"]);
  assert.equal(await state(one), "given_up");
  assert.match(await told(one), /not run again: a person cancelled it/);
});

test("a forge that says later is asked until it is time, and no longer than six hours", async () => {
  const timing = { tickMs: 5 * minute, pollMs: 5 * minute, leaseMs: 60 * minute };
  const one = await world({ timing });
  one.forge.rerunAnswer = { kind: "later", reason: "its run is not over" };
  await lose(one, await running(one));
  await one.clock.run(60 * minute);
  const asked = one.forge.wishes.length;
  assert.ok(asked > 5 && asked <= 13, `${asked}`);
  const lines = (await told(one)).match(/its run is not over/g) ?? [];
  assert.equal(lines.length, 1, "said once");
  await one.clock.run(6 * 60 * minute);
  assert.equal(await state(one), "given_up");
  assert.match(await told(one), /its time for that is over \(not run again yet: its run is not/);
});

test("a forge that agrees and shows nothing of it holds nobody to on-demand machines for long", async () => {
  const timing = { tickMs: 5 * minute, pollMs: 5 * minute, leaseMs: 60 * minute };
  const one = await world({ timing });
  one.forge.rerun = async () => ({ kind: "asked" });
  await lose(one, await running(one));
  await one.clock.run(30 * minute);
  assert.equal(await state(one), "asked");
  await one.clock.run(50 * minute);
  assert.equal(await state(one), "given_up");
  assert.match(await told(one), /acme agreed to it and shows nothing of it/);
});

test("a forge that is down for a while is asked when it is back", async () => {
  const one = await world();
  await lose(one, await running(one));
  one.forge.isDown = true;
  await one.clock.run(30 * minute);
  assert.equal(await state(one), "asking");
  assert.match(await told(one), /not run again yet: the forge is down/);
  one.forge.isDown = false;
  await one.clock.run(5 * minute);
  assert.deepEqual(one.forge.fulfilled, ["1"]);
  assert.equal(await state(one), "done");
});

test("an answer that gets lost makes no second new attempt", async () => {
  const one = await world();
  one.forge.rerunAnswer = "lost";
  await lose(one, await running(one));
  await one.clock.run(10 * minute);
  assert.deepEqual(one.forge.fulfilled, ["1"]);
  assert.deepEqual(one.forge.wishes, ["1", "1"]);
  assert.equal(await state(one), "done");
});

test("a manager that dies between the record and the answer leaves it to the next", async () => {
  const one = await world();
  const name = await running(one);
  const hanging = Promise.withResolvers<never>();
  const real = one.forge.rerun.bind(one.forge);
  let isHeard = false;
  one.forge.rerun = async (job) => {
    if (isHeard) return real(job);
    isHeard = true;
    await real(job);
    return hanging.promise;
  };
  await lose(one, name);
  await one.clock.run(30_000);
  assert.equal(await state(one), "asking");
  const dead = one.fleet.stop();
  await one.startFleet();
  await one.clock.run(10 * minute);
  hanging.reject(new Error("dead"));
  await dead;
  assert.deepEqual(one.forge.fulfilled, ["1"]);
  assert.equal(await state(one), "done");
});

test("what ended well, or was a machine's ordinary end, is left alone", async () => {
  const one = await world();
  const name = await running(one);
  one.forge.finish(name);
  one.provider.takeBack(name);
  const other = await running(one, "2");
  one.provider.die(other, 1);
  one.forge.fail("2");
  await one.clock.run(20 * minute);
  assert.deepEqual(one.forge.wishes, []);
  assert.deepEqual([await state(one), await state(one, "2")], [null, null]);
});

test("a pool may want none of it", async () => {
  const one = await world({ pools: [samplePool({ reruns: false })] });
  await lose(one, await running(one));
  await one.clock.run(20 * minute);
  assert.deepEqual(one.forge.wishes, []);
  assert.match(await told(one), /pool small has no job run again/);
});

test("a forge that cannot is not asked", async () => {
  const one = await world();
  Object.assign(one.forge, { rerun: undefined });
  await lose(one, await running(one));
  await one.clock.run(5 * minute);
  assert.equal(await state(one), "given_up");
  assert.match(await told(one), /nobody at acme can be asked/);
});

test("a label may ask for a machine that nobody takes back", async () => {
  const one = await world({ pools: [samplePool({ labels: ["linux"] })] });
  one.forge.queue("1", ["linux", "mayfly/spot=false"]);
  await one.clock.run(10_000);
  const [runner] = await listRunners(one.store.db);
  assert.equal(runner?.isOnDemand, true);
  assert.equal(one.provider.specOf(runner.name)?.isOnDemand, true);
});

const work = {
  source: { kind: "none" },
  command: ["true"],
  environment: {},
  timeoutSeconds: 60,
  artifacts: [],
} as const;

/** A native job on a machine; resolves to its name. */
async function native(one: World): Promise<string> {
  const sighting = sampleSighting({ externalId: "n", labels: ["linux"], work });
  await one.fleet.intake.record([sighting]);
  await one.clock.run(2_000);
  const [runner] = await listRunners(one.store.db);
  const name = runner?.name ?? "";
  const started = { state: "started", runner: name, startedAt: one.clock.now() } as const;
  await one.fleet.intake.record([{ ...sighting, ...started }]);
  await one.clock.run(1_000);
  return name;
}

for (const labels of ["any", "certain"] as const) {
  test(`a native job runs again as a new attempt where ${labels} labels are allowed`, async () => {
    const allow = labels === "any" ? [] : ["linux"];
    const one = await world({ pools: [samplePool({ allow, labels: ["linux"] })] });
    one.provider.takeBack(await native(one));
    await one.clock.run(3 * minute);
    assert.equal((await findJob(one.store.db, "acme-n"))?.outcome, "lost");
    const again = await findJob(one.store.db, "acme-n.2");
    assert.deepEqual(again?.labels, labels === "any" ? ["linux", "mayfly/spot=false"] : ["linux"]);
    assert.deepEqual(again.work, work);
    const newest = (await listRunners(one.store.db)).find((each) => each.isOnDemand === true);
    assert.equal(newest?.pool, "small");
    assert.deepEqual(one.forge.wishes, []);
    assert.equal(await state(one, "n"), "asked");
    await one.fleet.intake.record([{ ...again, state: "started", runner: newest.name }]);
    await one.clock.run(1 * minute);
    assert.equal(await state(one, "n"), "done");
  });
}

test("a native job that a person cancelled is not run again", async () => {
  const one = await world({ pools: [samplePool({ labels: ["linux"] })] });
  const name = await native(one);
  await one.store.write((tx) => askCancellation(tx, "acme-n", "no longer needed"));
  one.provider.takeBack(name);
  await one.clock.run(3 * minute);
  assert.equal(await findJob(one.store.db, "acme-n.2"), null);
  assert.match(await told(one, "n"), /not run again: it was cancelled: no longer needed/);
});
