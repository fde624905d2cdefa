import assert from "node:assert/strict";
import { test } from "node:test";
import { playGitea } from "./testing.ts";

const signal = (): AbortSignal => AbortSignal.timeout(60_000);

for (const version of ["1.27.3", "1.25.5"]) {
  test(`runs are looked up by their repository (Gitea ${version})`, async (t) => {
    const { fake, forge } = await playGitea({ version });
    t.after(() => fake.server.close());
    const { state } = fake;
    const where = { repository: "acme/rocket", event: "push", ref: "refs/heads/main" };
    const [over, open] = [state.addRun(where), state.addRun(where)];
    state.end(state.addJob(over, ["linux"]), "success");
    const first = state.addJob(open, ["linux"]);
    state.addJob(open, ["linux", "late"], "blocked");
    for (let n = 0; n < 60; n++) state.addJob(open, ["many"]);

    const listed = await forge.runs?.open("acme/rocket", signal());
    assert.deepEqual(listed, [
      {
        ...{ id: String(open.id), attempt: 1, isOver: false, workflow: "build.yml" },
        url: `${fake.url}/acme/rocket/actions/runs/${open.id}`,
      },
    ]);
    const found = await forge.runs?.find("acme/rocket", String(open.id), signal());
    assert.deepEqual([found?.trust, found?.isOver, found?.jobs.length], ["trusted", false, 61]);
    assert.deepEqual(found?.jobs[0]?.labels, first.labels);
    const ended = await forge.runs?.find("acme/rocket", String(over.id), signal());
    assert.deepEqual([ended?.isOver, ended?.jobs[0]?.state], [true, "ended"]);
    for (const id of ["1", "0", "x", "../1", "-1"]) {
      assert.equal(await forge.runs?.find("acme/rocket", id, signal()), null, id);
    }
    assert.deepEqual(await forge.runs?.open("acme/../rocket", signal()), []);
    assert.deepEqual(await forge.runs?.open("acme/nothing", signal()), []);
  });
}
