import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import type { KnownJob } from "../forge.ts";
import type { FakeJob, FakeRun, FakeStatus } from "./fake/state.ts";
import { playGitea, type PlayedGitea } from "./testing.ts";

const never = new AbortController().signal;
let open: PlayedGitea[] = [];
afterEach(async () => {
  for (const { fake } of open) await fake.server.close();
  open = [];
});

async function play(version: string): Promise<[PlayedGitea, FakeRun]> {
  const world = await playGitea({ version });
  open.push(world);
  const run = { repository: "acme/rocket", event: "push", ref: "refs/heads/main" };
  return [world, world.fake.state.addRun(run)];
}

/** A job of the run that a runner had, and that is over. */
function over({ fake: { state } }: PlayedGitea, run: FakeRun, how: FakeStatus): FakeJob {
  const job = state.addJob(run, ["linux"]);
  state.start(job, state.register(`r-${job.id}`, ["linux"], true));
  state.end(job, how);
  return job;
}

const known = ({ id, run }: FakeJob): KnownJob => ({
  externalId: String(id),
  attempt: 1,
  repository: run.repository,
});
const rerun = ({ forge }: PlayedGitea, job: FakeJob, others: readonly FakeJob[] = []) =>
  forge.rerun!(known(job), others.map(known), never);
const waiting = ({ fake }: PlayedGitea) =>
  [...fake.state.jobs.values()].filter(({ status }) => status === "waiting");

for (const version of ["1.26.4", "1.27.3"]) {
  describe(`a job of Gitea ${version}`, () => {
    it("runs again once all of its run is over, and once only", async () => {
      const [world, run] = await play(version);
      const job = over(world, run, "failure");
      const other = world.fake.state.addJob(run, ["linux"]);
      assert.equal((await rerun(world, job)).kind, "later");
      world.fake.state.end(other, "success");
      assert.deepEqual(await rerun(world, job), { kind: "asked" });
      assert.equal(waiting(world).length, 1);
      // The answer may have been lost.
      assert.deepEqual(await rerun(world, job), { kind: "asked" });
      assert.equal(waiting(world).length, 1);
      const [sighting] = await world.forge.poll(never);
      assert.equal(sighting?.attempt, 2);
    });

    it("does not run again when it is cancelled, or is gone", async () => {
      const [world, run] = await play(version);
      const answer = await rerun(world, over(world, run, "cancelled"));
      assert.deepEqual(answer, { kind: "refused", reason: "it ended as cancelled" });
      const gone = { externalId: "9999", attempt: 1, repository: "acme/rocket" };
      assert.equal((await world.forge.rerun!(gone, [], never)).kind, "refused");
      assert.deepEqual(waiting(world), []);
    });

    it("runs again with others of its run", async () => {
      const [world, run] = await play(version);
      const [one, two] = [over(world, run, "failure"), over(world, run, "failure")];
      over(world, run, "success");
      assert.deepEqual(await rerun(world, one, [two]), { kind: "asked" });
      assert.deepEqual(await rerun(world, two), { kind: "asked" });
      assert.equal(waiting(world).length, 2);
    });
  });
}

describe("a Gitea that is too old", () => {
  it("is said to be", async () => {
    const [world, run] = await play("1.25.5");
    const answer = await rerun(world, over(world, run, "failure"));
    assert.deepEqual(answer, {
      kind: "refused",
      reason: "the server cannot (status 404); Gitea 1.26 and newer can",
    });
  });
});
