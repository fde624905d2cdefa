import assert from "node:assert/strict";
import { test } from "node:test";
import { placed, sampleClaim, sampleSighting } from "../../test/samples.ts";
import { HandClock, onBothEngines } from "../../test/stores.ts";
import { labelClass } from "../domain/matching.ts";
import { addFacts } from "./facts.ts";
import { recordSightings } from "./jobs.ts";
import { takeLease } from "./leases.ts";
import { moveRunner, recordClaims } from "./runners.ts";
import {
  classTally,
  factsSince,
  jobsNamed,
  jobTimes,
  latestEnded,
  listLeases,
  machineLives,
  newestFactId,
  oldestWaiting,
  runnersNamed,
  startedCount,
  type JobTimes,
  type MachineLife,
} from "./statistics.ts";
import type { Store } from "./store.ts";

const start = 1_800_000_000_000;

function put(store: Store, ...changes: Parameters<typeof sampleSighting>[0][]): Promise<unknown> {
  const items = changes.map((one) => placed(sampleSighting(one)));
  return store.write((tx) => recordSightings(tx, items));
}

async function claim(store: Store, ...names: string[]): Promise<void> {
  await store.write(async (tx) => {
    const lease = await takeLease(tx, "pool/small", "me", 60_000);
    assert.ok(lease);
    await recordClaims(
      tx,
      lease,
      names.map((name) => sampleClaim(name)),
      100,
    );
  });
}

onBothEngines("statistics", (under) => {
  test("what waits longest, what ended last, and how many run", async () => {
    const store = await under.open(new HandClock());
    await put(
      store,
      { externalId: "new", queuedAt: start + 3 },
      { externalId: "old", queuedAt: start + 1 },
      { externalId: "run", state: "started", startedAt: start + 5 },
      {
        externalId: "late",
        state: "ended",
        outcome: "success",
        queuedAt: start,
        endedAt: start + 9,
      },
      {
        externalId: "early",
        state: "ended",
        outcome: "failure",
        queuedAt: start + 2,
        endedAt: start + 8,
      },
    );
    const stray = placed(sampleSighting({ externalId: "stray", queuedAt: start }), { pool: null });
    await store.write((tx) => recordSightings(tx, [stray]));
    const ids = (jobs: { externalId: string }[]): string[] =>
      jobs.map(({ externalId }) => externalId);
    assert.deepEqual(
      ids(await oldestWaiting(store.db, 10)),
      ["old", "new"],
      "a stray one is not ours",
    );
    assert.deepEqual(ids(await oldestWaiting(store.db, 1)), ["old"]);
    assert.deepEqual(ids(await latestEnded(store.db, 10)), ["late", "early"]);
    assert.equal(await startedCount(store.db), 1);
    assert.deepEqual(
      [...(await jobsNamed(store.db, ["acme-old", "acme-no"])).keys()],
      ["acme-old"],
    );
  });

  test("machines by name, a class's count, and who holds what", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    await claim(store, "m-a", "m-b");
    await put(store, { externalId: "1" });
    assert.deepEqual([...(await runnersNamed(store.db, ["m-b", "m-x"])).keys()], ["m-b"]);
    assert.equal((await runnersNamed(store.db, [])).size, 0);
    const tally = await classTally(store.db, "small", labelClass(["linux"]));
    assert.equal(tally?.booting, 2);
    assert.equal(tally?.waiting, 1);
    assert.equal(await classTally(store.db, "small", labelClass(["gpu"])), null);
    const [lease] = await listLeases(store.db);
    assert.equal(lease?.resource, "pool/small");
    assert.equal(lease?.holder, "me");
  });

  test("facts are read on from one, by kind and by subject", async () => {
    const store = await under.open(new HandClock());
    assert.equal(await newestFactId(store.db), 0);
    await put(store, { externalId: "1" }, { externalId: "2" });
    const first = await newestFactId(store.db);
    await store.write((tx) =>
      addFacts(tx, [
        { subjectKind: "job", subject: "acme-1", kind: "started", reason: "x" },
        { subjectKind: "job", subject: "acme-2", kind: "ended", reason: "y" },
      ]),
    );
    const kinds = async (...which: Parameters<typeof factsSince>): Promise<string[]> =>
      (await factsSince(...which)).map(({ kind }) => kind);
    assert.deepEqual(await kinds(store.db, first, {}, 10), ["started", "ended"]);
    assert.deepEqual(await kinds(store.db, first, {}, 1), ["started"]);
    assert.deepEqual(await kinds(store.db, 0, { kinds: ["ended"] }, 10), ["ended"]);
    assert.deepEqual(await kinds(store.db, 0, { subject: "acme-1" }, 10), ["seen", "started"]);
  });

  test("times and lives are paged without losing any of one moment", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const ids = ["a", "b", "c", "d", "e"];
    await put(store, ...ids.map((externalId) => ({ externalId, queuedAt: start + 10 })));
    await put(
      store,
      { externalId: "before", queuedAt: start - 1 },
      { externalId: "after", queuedAt: start + 20 },
    );
    const jobs: JobTimes[] = [];
    for (let last: JobTimes | null = null; ;) {
      const page: JobTimes[] = await jobTimes(store.db, start, start + 20, last, 2);
      jobs.push(...page);
      last = page.at(-1) ?? null;
      if (page.length < 2) break;
    }
    assert.deepEqual(
      jobs.map(({ id }) => id),
      ids.map((id) => `acme-${id}`),
    );

    await claim(store, "m-a", "m-b", "m-c");
    clock.advance(1000);
    await store.write((tx) => moveRunner(tx, "m-b", "asked", { reason: "x" }));
    await store.write((tx) => moveRunner(tx, "m-b", "gone", { reason: "x" }));
    const lives: MachineLife[] = [];
    for (let last: MachineLife | null = null; ;) {
      const page: MachineLife[] = await machineLives(store.db, start, start + 9000, last, 2);
      lives.push(...page);
      last = page.at(-1) ?? null;
      if (page.length < 2) break;
    }
    assert.deepEqual(
      lives.map(({ name }) => name),
      ["m-a", "m-b", "m-c"],
    );
    assert.deepEqual(
      lives.map(({ bornAt, goneAt }) => [bornAt, goneAt]),
      [
        [start, null],
        [start, start + 1000],
        [start, null],
      ],
    );
    assert.deepEqual(await machineLives(store.db, start + 1, start + 9000, null, 10), []);
  });
});
