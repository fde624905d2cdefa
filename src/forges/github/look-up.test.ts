import assert from "node:assert/strict";
import { test } from "node:test";
import { openWorld } from "./fake/world.ts";

const signal = (): AbortSignal => AbortSignal.timeout(60_000);

test("runs are looked up by their repository", async (t) => {
  const world = await openWorld({ now: Date.now });
  t.after(() => world.close());
  const { fake, forge } = world;
  const { state } = fake;
  const repository = state.repository("widget");
  const over = state.run(repository, repository);
  state.end(state.job(over, ["linux"]), "success");
  const open = state.run(repository, state.repository("stranger/widget"), "pull_request");
  open.attempt = 3;
  for (let n = 0; n < 120; n++) state.job(open, ["linux"]);
  Object.assign(state.job(open, ["ubuntu-latest"]), { status: "in_progress" });

  const listed = await forge.runs?.open("acme/widget", signal());
  assert.deepEqual(listed, [
    {
      ...{ id: String(open.id), attempt: 3, isOver: false, workflow: "ci.yml" },
      url: `${state.api}/repos/acme/widget/actions/runs/${open.id}`,
    },
  ]);
  const found = await forge.runs?.find("acme/widget", String(open.id), signal());
  assert.deepEqual([found?.trust, found?.attempt, found?.jobs.length], ["fork", 3, 121]);
  const ended = await forge.runs?.find("acme/widget", String(over.id), signal());
  assert.deepEqual([ended?.isOver, ended?.trust], [true, "trusted"]);
  for (const id of ["1", "0", "x", "../1", "1;2"]) {
    assert.equal(await forge.runs?.find("acme/widget", id, signal()), null, id);
  }
  assert.equal(await forge.runs?.find("acme/other", String(open.id), signal()), null);
});

test("asked again, a look-up of what has not changed costs nothing of the quota", async (t) => {
  const world = await openWorld({ now: Date.now });
  t.after(() => world.close());
  const { fake, forge } = world;
  const repository = fake.state.repository("widget");
  const run = fake.state.run(repository, repository);
  fake.state.job(run, ["linux"]);
  for (let n = 0; n < 3; n++) {
    await forge.runs?.open("acme/widget", signal());
    await forge.runs?.find("acme/widget", String(run.id), signal());
  }
  const counted = fake.records.filter(({ status }) => status !== 304);
  assert.equal(counted.length, 4, "two lists, the run and its jobs, once");
});
