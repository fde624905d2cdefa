import assert from "node:assert/strict";
import { test } from "node:test";
import { playForgejo } from "../forges/forgejo/testing.ts";
import { playGitea } from "../forges/gitea/testing.ts";
import { findJob, listJobs } from "../store/questions.ts";
import { openLoans } from "../store/loans.ts";
import { boot, brokerWorld, round, wish } from "./testing.ts";

/* The same broker at the other forges. */

const settings = { repositories: ["acme/rocket"] };
const never = new AbortController().signal;

test("a run at Gitea borrows a machine, uses it and gives it back", async (t) => {
  const { fake, forge } = await playGitea();
  t.after(() => fake.server.close());
  const world = await brokerWorld({ settings, forge: () => Promise.resolve(forge) });
  t.after(() => world.close());
  const { state } = fake;
  const run = state.addRun({ repository: "acme/rocket", event: "push", ref: "refs/heads/main" });
  const setup = state.addJob(run, ["ubuntu-latest"]);
  state.start(setup, state.register("elsewhere", ["ubuntu-latest"], true));
  const label = `mayfly_${run.id}_1`;
  await world.broker.lend(wish(label, "x86_64"), null);
  const [runner] = await boot(world);
  await world.broker.ready(wish(label, "x86_64"), null, never);
  const registered = [...state.runners.values()].find(({ name }) => name === runner?.name);
  assert.deepEqual(registered?.labels.toSorted(), ["arch_x86_64", label].toSorted());
  assert.ok(registered.isEphemeral);

  const job = state.addJob(run, [label, "arch_x86_64"]);
  state.end(setup, "success");
  const tell = async (): Promise<void> => {
    const { sightings } = await world.home.verify(fake.event(job));
    await world.intake.record(sightings);
  };
  await tell();
  state.start(job, registered);
  await tell();
  assert.equal((await findJob(world.store.db, `broker-${label}.x86_64`))?.state, "started");
  world.clock.offsetMs += 10_000;
  await assert.rejects(world.broker.giveBack([label]), { code: "conflict" });
  state.end(job, "success");
  world.clock.offsetMs += 10_000;
  await world.broker.giveBack([label]);
  await round(world);
  assert.equal((await findJob(world.store.db, `broker-${label}.x86_64`))?.outcome, "success");
  assert.deepEqual(await openLoans(world.store.db), []);
  assert.equal((await listJobs(world.store.db, { forge: "acme" })).length, 0);
});

for (const release of [15, 16] as const) {
  test(`a run at Forgejo ${release} borrows a machine that is registered when its job waits`, async (t) => {
    const { fake, forge } = await playForgejo({ release });
    t.after(() => fake.server.close());
    const world = await brokerWorld({ settings, forge: () => Promise.resolve(forge) });
    t.after(() => world.close());
    const { state } = fake;
    const run = state.addRun("push", false);
    const setup = state.addJob(run, ["docker"], "running");
    const label = `mayfly_${run.id}_1`;
    await world.broker.lend(wish(label, "x86_64"), null);
    const [runner] = await boot(world);
    assert.ok(runner);
    // It is up; Forgejo registers a runner for a certain job, and none waits yet.
    await world.broker.ready(wish(label, "x86_64"), null, never);
    assert.equal(state.runners.size, 0);

    const job = state.addJob(run, [label, "arch_x86_64"]);
    state.end(setup, "success");
    const context = { accept: ["trusted"], jobDeadlineSeconds: 60 } as const;
    const orders = await world.lender.handOver?.(runner, context, AbortSignal.timeout(60_000));
    assert.ok(orders);
    const [registered] = state.runners.values();
    assert.equal(registered?.name, runner.name);
    state.take(registered, job.handle);
    world.clock.offsetMs += 10_000;
    await round(world);
    assert.equal((await findJob(world.store.db, `broker-${label}.x86_64`))?.state, "started");
    state.end(job, "failure");
    world.clock.offsetMs += 10_000;
    await world.broker.giveBack([label]);
    assert.deepEqual(await openLoans(world.store.db), []);
  });
}
