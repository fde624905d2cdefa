import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { HandClock, onBothEngines } from "../../test/stores.ts";
import { placed, sampleClaim, sampleSighting } from "../../test/samples.ts";
import type { JobSighting } from "../domain/job.ts";
import { history } from "./facts.ts";
import { recordSightings } from "./jobs.ts";
import { takeLease } from "./leases.ts";
import { findJob, findRunner, type StoredJob } from "./questions.ts";
import {
  findRerun,
  interruptedJobs,
  moveRerun,
  nextAttempt,
  noteInterruption,
  rerunClasses,
  rerunsIn,
  wantRerun,
} from "./reruns.ts";
import { recordClaims } from "./runners.ts";
import type { Store } from "./store.ts";

onBothEngines("jobs to be run again", (under) => {
  let clock: HandClock;
  let store: Store;

  beforeEach(async () => {
    clock = new HandClock();
    store = await under.open(clock);
  });

  /** A runner, and a job that it had. */
  async function had(n: number, changes: Partial<JobSighting> = {}): Promise<StoredJob> {
    const name = `mf-small-${n}`;
    await store.write(async (tx) => {
      const lease = await takeLease(tx, "pool/small", "test", 60_000);
      assert.ok(lease);
      await recordClaims(tx, lease, [sampleClaim(name)], 1000);
    });
    const sighting = sampleSighting({
      externalId: `${n}`,
      state: "ended",
      outcome: "failure",
      runner: name,
      queuedAt: clock.now(),
      ...changes,
    });
    await store.write((tx) => recordSightings(tx, [placed(sighting)]));
    await store.write((tx) => noteInterruption(tx, name, "taken back"));
    const job = await findJob(store.db, `acme-${n}${(changes.attempt ?? 1) > 1 ? ".2" : ""}`);
    assert.ok(job);
    return job;
  }
  const wanted = async (since = 0) =>
    (await interruptedJobs(store.db, "acme", since, 100)).map(({ id }) => id);

  test("are first attempts that did not end well on a machine that was taken back", async () => {
    const work = {
      source: { kind: "none" },
      command: ["true"],
      environment: {},
      timeoutSeconds: 1,
      artifacts: [],
    } as const;
    await had(1);
    await had(2, { outcome: "success" });
    await had(3, { attempt: 2 });
    await had(4, { state: "started", outcome: null });
    await had(5, { work, outcome: "failure" });
    await had(6, { work, outcome: "lost" });
    await had(7, { work, outcome: "cancelled" });
    await had(8, { outcome: "cancelled" });
    assert.deepEqual((await wanted()).sort(), ["acme-1", "acme-4", "acme-6", "acme-8"]);
    assert.deepEqual(await wanted(clock.now() + 1), []);
  });

  test("mark a machine once, whoever tells", async () => {
    await had(1);
    await store.write((tx) => noteInterruption(tx, "mf-small-1", "told again"));
    await store.write((tx) => noteInterruption(tx, "mf-small-none", "nobody"));
    const facts = (await history(store.db, "mf-small-1")).map(({ reason }) => reason);
    assert.deepEqual(
      facts.filter((reason) => /taken back|told again/.test(reason)),
      ["taken back"],
    );
    assert.equal((await findRunner(store.db, "mf-small-1"))?.isOnDemand, undefined);
  });

  test("have one row for ever, which moves from the state that it was read in", async () => {
    const job = await had(1);
    const wish = { state: "wanted", reason: "a wish", deadlineAt: clock.now() + 1000 } as const;
    await store.write((tx) => wantRerun(tx, job, wish));
    await store.write((tx) => wantRerun(tx, job, { ...wish, reason: "another" }));
    assert.deepEqual(await wanted(), []);
    const [row, ...more] = await rerunsIn(store.db, "acme", ["wanted"], 10);
    assert.ok(row);
    assert.deepEqual([row.job, row.reason, more], ["acme-1", "a wish", []]);
    assert.deepEqual([...(await rerunClasses(store.db, "small"))], []);

    const asking = { state: "asking", tries: 1, reason: row.reason } as const;
    assert.equal(await store.write((tx) => moveRerun(tx, row, asking)), true);
    assert.equal(await store.write((tx) => moveRerun(tx, row, asking)), false, "read too long ago");
    assert.deepEqual([...(await rerunClasses(store.db, "small"))], [job.labelClass]);
    const now = await findRerun(store.db, "acme-1");
    assert.ok(now);
    assert.deepEqual([now.state, now.tries, now.asked_at], ["asking", 1, clock.now()]);
    await store.write((tx) => moveRerun(tx, now, { state: "done", again: "x", reason: "done" }));
    assert.deepEqual([...(await rerunClasses(store.db, "small"))], []);
    const facts = (await history(store.db, "acme-1")).map(({ reason }) => reason);
    assert.deepEqual(facts.slice(-2), ["a wish", "done"]);
  });

  test("are known again in the next attempt of the same run", async () => {
    const job = await had(1, { url: "https://forge.test/a/b/actions/runs/7/job/1" });
    const again = (externalId: string, run: number) =>
      sampleSighting({
        externalId,
        attempt: 2,
        queuedAt: clock.now(),
        url: `https://forge.test/a/b/actions/runs/${run}/attempts/2/job/${externalId}`,
      });
    for (const sighting of [again("20", 8), again("21", 7)]) {
      await store.write((tx) => recordSightings(tx, [placed(sighting)]));
    }
    assert.equal((await nextAttempt(store.db, job, 0))?.externalId, "21");
    assert.equal(await nextAttempt(store.db, job, clock.now() + 1), null);
  });
});
