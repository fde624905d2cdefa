import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type { NativeWork } from "../domain/job.ts";
import { samplePool } from "../../test/samples.ts";
import { HandClock } from "../../test/stores.ts";
import { provider, StubFleet } from "../../test/web.ts";
import { MayflyError } from "../domain/errors.ts";
import { labelClass } from "../domain/matching.ts";
import { moveRunner, postponeRunner } from "../store/runners.ts";
import { findRerun, moveRerun, wantRerun } from "../store/reruns.ts";
import { Store } from "../store/store.ts";
import { why } from "./why.ts";

let store: Store;
let fleet: StubFleet;
const clock = new HandClock();
let count = 0;

before(async () => {
  store = await Store.open({ engine: "sqlite", folder: null }, clock.now);
});
after(async () => {
  await store.close();
});
beforeEach(() => {
  fleet = new StubFleet(store);
  fleet.clock = clock;
});

/** Labels of their own keep each test's job from seeing another's machines. */
function own(): string[] {
  return [`l${++count}`];
}

async function told(id: string): Promise<string> {
  const { summary, advice } = await why(fleet, id, clock.now());
  return `${summary} ${advice ?? ""}`;
}

test("nobody asked for it", async () => {
  await assert.rejects(
    why(fleet, "nobody", 0),
    (error: unknown) => error instanceof MayflyError && error.code === "not_found",
  );
});

test("a waiting job: no pool, a pool that is gone, or one about to act", async () => {
  const stray = await fleet.put({ externalId: `${++count}`, labels: own() }, null);
  assert.match(await told(stray.id), /^No pool here takes it: .*add a pool/);
  const orphan = await fleet.put({ externalId: `${++count}`, labels: own() }, "old");
  assert.match(await told(orphan.id), /^Pool old, which would take it, is no longer configured/);
  const next = await fleet.put({ externalId: `${++count}`, labels: own() });
  assert.match(await told(next.id), /^It is next in pool small/);
});

test("a waiting job: held by the plan, in the plan's own words", async () => {
  const job = await fleet.put({ externalId: `${++count}`, labels: own() });
  const full = "3 jobs waiting: 10 of at most 10 machines alive";
  const hold = (labels: string[] | null, until: number | null, reason = full): void => {
    const key = labels === null ? null : labelClass(labels);
    fleet.plans.set("small", {
      at: clock.at,
      actions: [{ kind: "hold", labelClass: key, count: 3, until, reason }],
    });
  };
  hold(null, null);
  assert.match(
    await told(job.id),
    /no room for it: 10 of at most 10 machines alive\. .*larger `max`/,
  );
  hold(job.labels.slice(), clock.at + 90_000, "3 jobs waiting: box refused (invalid): no image");
  assert.match(
    await told(job.id),
    /^Pool small tries again in 1 min: box refused \(invalid\): no image\. .*doctor/,
  );
  hold(["others"], null);
  assert.match(await told(job.id), /^It is next/, "the hold of another class is not its own");
});

test("a waiting job: its provider is left alone, and for how long", async () => {
  const job = await fleet.put({ externalId: `${++count}`, labels: own() });
  const backOff = { until: clock.at + 30_000, failures: 2, reason: "quota: 5 of 5 vCPU" };
  fleet.providerList = [provider("box", { backOff })];
  assert.match(
    await told(job.id),
    /^Provider box is asked again in 30 s: quota: 5 of 5 vCPU \(2 failures in a row\)/,
  );
  fleet.providerList = [provider("box", { backOff: { ...backOff, until: clock.at - 1 } })];
  assert.match(await told(job.id), /^It is next/);
});

test("a waiting job: machines for it start, or are up", async () => {
  const labels = own();
  const job = await fleet.put({ externalId: `${++count}`, labels });
  const claim = { labels, labelClass: labelClass(labels) };
  await fleet.machine(`m-${++count}`, "asked", claim);
  assert.match(await told(job.id), /^1 machine for its labels is starting\./);
  await fleet.put({ externalId: `${++count}`, labels });
  assert.match(await told(job.id), /is starting, for 2 jobs that wait/);
  await fleet.machine(`m-${++count}`, "up", claim);
  assert.match(await told(job.id), /^1 machine for its labels is up/);
});

test("a running job: where, since when and at what price; on others' machines too", async () => {
  const price = { microUsdPerHour: 41_600, quantumSeconds: 1, minimumSeconds: 0 };
  await fleet.machine("m-run", "up", { price });
  const id = `${++count}`;
  const running = {
    externalId: id,
    state: "started",
    runner: "m-run",
    startedAt: clock.at,
  } as const;
  await fleet.put(running);
  clock.advance(65_000);
  assert.match(
    await told(`acme-${id}`),
    /^It runs on m-run \(box, 2 cpu, 4 GB, 20 GB disk\), for 1 min 5 s, at \$0\.0416 an hour/,
  );
  const other = await fleet.put({ externalId: `${++count}`, state: "started", runner: "hosted-1" });
  assert.match(await told(other.id), /hosted-1, which is not ours/);
});

test("an ended job: each outcome in a sentence, with what to do", async () => {
  const end = async (
    outcome: "success" | "failure" | "lost" | "timed_out" | "refused",
    work: NativeWork | null = null,
  ): Promise<string> => {
    const job = await fleet.put({
      externalId: `${++count}`,
      state: "ended",
      outcome,
      endedAt: clock.at,
      work,
    });
    return told(job.id);
  };
  const limits = { environment: {}, timeoutSeconds: 60, artifacts: [] };
  const work: NativeWork = { source: { kind: "none" }, command: ["false"], ...limits };
  assert.match(await end("success"), /^It ended well\. $/);
  assert.match(await end("failure", work), /^Its command failed\. The end of its log/);
  assert.match(await end("failure"), /^It failed\. Its log at its forge/);
  assert.match(await end("lost"), /vanished under it.*Run it again/);
  assert.match(await end("timed_out"), /longer than it may.*timeoutSeconds/);
  assert.match(await end("refused"), /No pool may take it.*labels/);
});

test("a machine: its state, why, what failed and what it cost; with its history", async () => {
  const price = { microUsdPerHour: 3_600_000, quantumSeconds: 1, minimumSeconds: 0 };
  await fleet.machine("m-life", "asked", { price });
  await store.write((tx) =>
    postponeRunner(tx, { name: "m-life", state: "asked" }, clock.at + 1000, "box did not answer"),
  );
  clock.advance(10_000);
  assert.match(
    await told("m-life"),
    /^It is starting: box made c0ffee in 812 ms\. 1 call failed so far\. It cost \$0\.0100 in 10 s/,
  );
  await store.write((tx) =>
    moveRunner(tx, "m-life", "gone", { reason: "box confirms it is gone" }),
  );
  const { because, state } = await why(fleet, "m-life", clock.now());
  assert.equal(state, "gone");
  assert.deepEqual(
    because.map(({ text }) => text.split(":")[0]),
    ["claimed", "asked for", "failed", "gone"],
  );
});

test("a machine whose provider is no longer configured is told as such", async () => {
  const listed = fleet.providerList;
  await fleet.machine("m-orphan", "up");
  assert.doesNotMatch(await told("m-orphan"), /no longer configured/);
  fleet.providerList = [];
  assert.match(await told("m-orphan"), /Provider box, which made it, is no longer configured/);
  fleet.providerList = listed;
});

test("a pool's limit of none is told as such", async () => {
  fleet.pools = [samplePool({ max: 0 })];
  const job = await fleet.put({ externalId: `${++count}`, labels: own() });
  fleet.plans.set("small", {
    at: clock.at,
    actions: [
      {
        kind: "hold",
        labelClass: null,
        count: 1,
        until: null,
        reason: "1 job waiting: pool small is closed (max 0)",
      },
    ],
  });
  assert.match(await told(job.id), /has no room for it: pool small is closed \(max 0\)\. $/);
});

test("a job whose machine was taken back: what becomes of it", async () => {
  const changes = { state: "ended", outcome: "failure", endedAt: clock.at } as const;
  const job = await fleet.put({ externalId: `${++count}`, labels: own(), ...changes });
  assert.match(await told(job.id), /^It failed/);
  await store.write((tx) =>
    wantRerun(tx, job, { state: "wanted", reason: "once, on demand", deadlineAt: clock.at + 1000 }),
  );
  assert.match(
    await told(job.id),
    /^Its machine was taken back under it, and it is to be run again/,
  );
  const become = (state: "asked" | "done" | "given_up", reason: string) =>
    store.write(async (tx) => {
      const rerun = await findRerun(tx.db, job.id);
      if (rerun !== null) await moveRerun(tx, rerun, { state, reason, again: "acme-9.2" });
    });
  await become("asked", "acme was asked");
  assert.match(await told(job.id), /waits to be run again: acme was asked/i);
  await become("done", "it was run again");
  assert.match(await told(job.id), /it was run again as acme-9\.2/);
  await become("given_up", "not run again: its run is a month old");
  const { summary, because } = await why(fleet, job.id, clock.now());
  assert.match(summary, /^It failed/);
  assert.match(because.at(-1)?.text ?? "", /its run is a month old/);
});
