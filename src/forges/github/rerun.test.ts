import assert from "node:assert/strict";
import { test } from "node:test";
import type { KnownJob } from "../forge.ts";
import type { FakeJob, FakeRun } from "./fake/shapes.ts";
import { openWorld, type GithubWorld } from "./fake/world.ts";

const never = new AbortController().signal;

async function within(run: (world: GithubWorld, of: FakeRun) => Promise<void>): Promise<void> {
  const world = await openWorld({ now: Date.now });
  try {
    const { state } = world.fake;
    await run(world, state.run(state.repository("widget"), state.repository("widget")));
  } finally {
    await world.close();
  }
}

const known = ({ id, run, attempt }: FakeJob): KnownJob => ({
  externalId: String(id),
  attempt,
  repository: run.repository.fullName,
});
const rerun = ({ forge }: GithubWorld, job: FakeJob, others: readonly FakeJob[] = []) =>
  forge.rerun!(known(job), others.map(known), never);
const posts = ({ fake }: GithubWorld) => fake.records.filter(({ method }) => method === "POST");

/** A job of the run that is over. */
function over({ fake: { state } }: GithubWorld, run: FakeRun, how: string, notes: string[] = []) {
  const job = state.job(run, ["linux"]);
  state.end(job, how);
  job.annotations.push(...notes);
  return job;
}

const shutDown =
  "The runner has received a shutdown signal. This can happen when the runner service is stopped, or a manually started runner is canceled.";

test("a job that failed runs again once all of its run is over", () =>
  within(async (world, run) => {
    const job = over(world, run, "failure");
    const other = world.fake.state.job(run, ["linux"]);
    const later = await rerun(world, job);
    assert.equal(later.kind, "later");
    assert.deepEqual(posts(world), []);
    world.fake.state.end(other, "success");
    assert.deepEqual(await rerun(world, job), { kind: "asked" });
    assert.equal(run.attempt, 2);
    // The answer may have been lost.
    assert.deepEqual(await rerun(world, job), { kind: "asked" });
    assert.equal(posts(world).length, 1);
    assert.deepEqual(
      world.fake.state.jobsOf(run).map(({ status, attempt }) => [status, attempt]),
      [["queued", 2]],
    );
  }));

test("a job of which GitHub says cancelled runs again only when its runner was shut down", () =>
  within(async (world, run) => {
    const cut = over(world, run, "cancelled", ["The operation was canceled.", shutDown]);
    assert.deepEqual(await rerun(world, cut), { kind: "asked" });
    const { state } = world.fake;
    for (const notes of [[], ["The run was canceled by @somebody."]]) {
      const person = over(world, state.run(run.repository, null), "cancelled", notes);
      const answer = await rerun(world, person);
      assert.equal(answer.kind, "refused");
      assert.match(answer.reason, /does not say that its runner was shut down/);
    }
    state.faults.refusals.push({ part: "/annotations", status: 403, message: "Forbidden" });
    const hidden = await rerun(world, over(world, state.run(run.repository, null), "cancelled"));
    assert.equal(hidden.kind, "refused");
    assert.match(hidden.reason, /Checks: read/);
    assert.equal(posts(world).length, 1);
  }));

test("several jobs of one run run again together", () =>
  within(async (world, run) => {
    const [one, two] = [over(world, run, "failure"), over(world, run, "failure")];
    over(world, run, "success");
    const stranger = over(world, world.fake.state.run(run.repository, null), "failure");
    assert.deepEqual(await rerun(world, one, [two, stranger]), { kind: "asked" });
    assert.deepEqual(await rerun(world, two, [stranger]), { kind: "asked" });
    assert.equal(world.fake.state.jobsOf(run).length, 2);
    assert.deepEqual(
      posts(world).map(({ path }) => path),
      [`/repos/acme/widget/actions/runs/${run.id}/rerun-failed-jobs`],
    );
  }));

test("what ended otherwise, is gone, or may not be run again, is refused with a reason", () =>
  within(async (world, run) => {
    const fine = await rerun(world, over(world, run, "success"));
    assert.deepEqual(fine, { kind: "refused", reason: "it ended as success" });
    const job = over(world, world.fake.state.run(run.repository, null), "failure");
    const gone = await world.forge.rerun!({ ...known(job), externalId: "99999" }, [], never);
    assert.equal(gone.kind, "refused");
    const { refusals } = world.fake.state.faults;
    refusals.push({
      part: "/rerun",
      status: 403,
      message: "Resource not accessible by integration",
    });
    const barred = await rerun(world, job);
    assert.equal(barred.kind, "refused");
    assert.match(barred.reason, /lacks a permission/);
    refusals.splice(0);
    refusals.push({
      part: "/rerun",
      status: 403,
      message: "The workflow run containing this job is already running",
    });
    assert.equal((await rerun(world, job)).kind, "later");
  }));

test("a GitHub that is down, or takes no more requests, is no refusal", () =>
  within(async (world, run) => {
    const job = over(world, run, "failure");
    world.fake.outage = "error";
    await assert.rejects(rerun(world, job), { code: "unavailable" });
    world.fake.outage = null;
    world.fake.state.faults.secondary = { left: 1, status: 403, retryAfter: 1 };
    await assert.rejects(rerun(world, job), { code: "too_many" });
    assert.equal(run.attempt, 1);
  }));
