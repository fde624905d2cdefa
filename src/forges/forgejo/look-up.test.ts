import assert from "node:assert/strict";
import { test } from "node:test";
import { playForgejo } from "./testing.ts";

const signal = (): AbortSignal => AbortSignal.timeout(60_000);

for (const release of [15, 16] as const) {
  test(`runs are looked up by their repository (Forgejo ${release})`, async (t) => {
    const { fake, forge } = await playForgejo({ release });
    t.after(() => fake.server.close());
    const { state } = fake;
    const [over, open] = [state.addRun("push", false), state.addRun("pull_request", true)];
    state.end(state.addJob(over, ["linux"]), "success");
    const job = state.addJob(open, ["linux"]);
    job.attempt = 2;

    const listed = await forge.runs?.open("acme/rocket", signal());
    assert.deepEqual(
      listed?.map(({ id, workflow, isOver }) => [id, workflow, isOver]),
      [[String(open.id), "build.yml", false]],
    );
    const found = await forge.runs?.find("acme/rocket", String(open.id), signal());
    assert.deepEqual([found?.trust, found?.isOver, found?.attempt], ["fork", false, 2]);
    assert.deepEqual(
      found?.jobs.map(({ labels, state: is }) => [labels, is]),
      [[["linux"], "waiting"]],
    );
    const ended = await forge.runs?.find("acme/rocket", String(over.id), signal());
    assert.equal(ended?.isOver, true);
    // Before 16 there is no list of a run's jobs, and those that are over are in no other.
    assert.equal(ended?.jobs.length, release === 15 ? 0 : 1);
    for (const id of ["1", "0", "x", "../1"]) {
      assert.equal(await forge.runs?.find("acme/rocket", id, signal()), null, id);
    }
  });
}
