import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { onBothEngines, HandClock } from "../../test/stores.ts";
import { placed, sampleClaim, sampleSighting } from "../../test/samples.ts";
import type { NativeWork } from "../domain/job.ts";
import { labelClass } from "../domain/matching.ts";
import { history } from "./facts.ts";
import {
  artifactContent,
  artifactsAmong,
  artifactTotals,
  askCancellation,
  deafJobs,
  dropArtifacts,
  dropCancellations,
  endJob,
  findCancellation,
  guestRunners,
  handOver,
  hasWaiting,
  logBytes,
  redeemClaim,
  removeGuest,
  setSource,
  treesInUse,
} from "./guest.ts";
import { recordSightings } from "./jobs.ts";
import { takeLease } from "./leases.ts";
import { addArtifact, appendLog } from "./logs.ts";
import { findJob, findRunner, poolTotal, type StoredJob } from "./questions.ts";
import { endRunner, recordClaims } from "./runners.ts";
import type { Store } from "./store.ts";

const work: NativeWork = {
  source: { kind: "none" },
  command: ["true"],
  environment: {},
  timeoutSeconds: 60,
  artifacts: [],
};

onBothEngines("what guests ask", (under) => {
  let clock: HandClock;
  let store: Store;

  beforeEach(async () => {
    clock = new HandClock();
    store = await under.open(clock);
  });

  async function submit(name: string, labels = ["linux"], changes: Partial<NativeWork> = {}) {
    const sighting = sampleSighting({
      forge: "native",
      externalId: name,
      labels,
      queuedAt: clock.now(),
      work: { ...work, ...changes },
    });
    clock.advance(1);
    await store.write((tx) => recordSightings(tx, [placed(sighting)]));
    return `native-${name}`;
  }

  async function up(name: string, labels = ["linux"]): Promise<string> {
    await store.write(async (tx) => {
      const lease = await takeLease(tx, "pool/small", "test", 60_000);
      assert.ok(lease);
      const claim = sampleClaim(name, { forge: "native", labels, labelClass: labelClass(labels) });
      await recordClaims(tx, lease, [claim], 1000);
    });
    await store.write((tx) => redeemClaim(tx, name, `digest-${name}`));
    return name;
  }

  const take = (runner: string) => store.write((tx) => handOver(tx, runner));

  async function jobOf(id: string): Promise<StoredJob> {
    const job = await findJob(store.db, id);
    assert.ok(job);
    return job;
  }

  test("a claim is redeemed once, and moves its runner up", async () => {
    await up("r1");
    assert.equal((await findRunner(store.db, "r1"))?.state, "up");
    assert.equal(await store.write((tx) => redeemClaim(tx, "r1", "digest-r1")), "digest-r1");
    assert.equal(await store.write((tx) => redeemClaim(tx, "r1", "other")), "digest-r1");
    assert.equal(await store.write((tx) => redeemClaim(tx, "r2", "other")), null);
  });

  test("a machine gets the oldest job of its class, and the same again", async () => {
    await submit("other", ["gpu"]);
    const oldest = await submit("a");
    await submit("b");
    await up("r1");
    const first = await take("r1");
    assert.ok(first.kind === "job");
    assert.equal(first.job.id, oldest);
    assert.deepEqual(await take("r1"), first);
    const job = await jobOf(oldest);
    assert.equal(job.state, "started");
    assert.equal(job.runner, "r1");
    assert.equal(job.startedAt, clock.now());
    const runner = await findRunner(store.db, "r1");
    assert.equal(runner?.state, "started");
    assert.equal(runner?.job, oldest);
    const total = await poolTotal(store.db, "small");
    assert.deepEqual([total.waiting, total.idle, total.busy], [2, 0, 1]);
    assert.ok((await history(store.db, oldest)).some(({ kind }) => kind === "started"));
  });

  test("without a job of its class a machine gets none", async () => {
    await submit("a", ["gpu"]);
    await up("r1");
    assert.deepEqual(await take("r1"), { kind: "none" });
    const which = { pool: "small", labelClass: labelClass(["gpu"]) };
    assert.equal(await hasWaiting(store.db, which), true);
    assert.equal(
      await hasWaiting(store.db, { pool: "small", labelClass: labelClass(["linux"]) }),
      false,
    );
  });

  test("a machine that is not wanted gets none", async () => {
    await submit("a");
    await up("r1");
    await store.write((tx) => endRunner(tx, "r1", "idle for too long"));
    assert.deepEqual(await take("r1"), { kind: "over", reason: "idle for too long" });
    await up("r2");
    assert.equal(await store.write((tx) => removeGuest(tx, "r2")), "gone");
    assert.equal((await take("r2")).kind, "over");
    assert.equal((await take("nobody")).kind, "over");
    assert.equal((await jobOf("native-a")).state, "waiting");
  });

  test("a claim that was removed can no longer be redeemed", async () => {
    await store.write(async (tx) => {
      const lease = await takeLease(tx, "pool/small", "test", 60_000);
      assert.ok(lease);
      await recordClaims(tx, lease, [sampleClaim("r1", { forge: "native" })], 10);
    });
    await store.write((tx) => removeGuest(tx, "r1"));
    assert.notEqual(await store.write((tx) => redeemClaim(tx, "r1", "digest")), "digest");
    assert.equal((await findRunner(store.db, "r1"))?.state, "claimed");
  });

  test("a machine with a job is busy until that is over", async () => {
    await submit("a");
    await up("r1");
    assert.deepEqual(await guestRunners(store.db, "native"), ["r1"]);
    await take("r1");
    assert.equal(await store.write((tx) => removeGuest(tx, "r1")), "busy");
    const job = await jobOf("native-a");
    const end = { outcome: "success", exitCode: 0, reason: "exit status 0" } as const;
    assert.equal(await store.write((tx) => endJob(tx, job, end)), true);
    assert.equal(await store.write((tx) => endJob(tx, job, end)), false);
    assert.equal(await store.write((tx) => removeGuest(tx, "r1")), "gone");
    assert.deepEqual(await guestRunners(store.db, "native"), []);
    assert.equal(await store.write((tx) => removeGuest(tx, "nobody")), "gone");
  });

  test("many machines and many jobs: each job once", async () => {
    const jobs = await Promise.all(Array.from({ length: 30 }, (_, i) => submit(`j${i}`)));
    const runners = Array.from({ length: 40 }, (_, i) => `r${i}`);
    for (const runner of runners) await up(runner);
    const other = under.again === null ? store : await under.again(clock);
    const results = await Promise.all(
      runners.map((runner, i) => (i % 2 === 0 ? store : other).write((tx) => handOver(tx, runner))),
    );
    const given = results.flatMap((result) => (result.kind === "job" ? [result.job.id] : []));
    // On a server another's lock may make one look empty-handed: it asks again at the next change.
    for (const runner of runners.slice(0, jobs.length - given.length + 10)) {
      const again = await take(runner);
      if (again.kind === "job" && !given.includes(again.job.id)) given.push(again.job.id);
    }
    assert.deepEqual(new Set(given), new Set(jobs));
    assert.equal(given.length, jobs.length);
    const total = await poolTotal(store.db, "small");
    assert.deepEqual([total.waiting, total.busy, total.idle], [0, 30, 10]);
  });

  test("a cancellation is kept until its job is over, the first reason first", async () => {
    const id = await submit("a");
    await up("r1");
    await take("r1");
    await store.write((tx) => askCancellation(tx, id, "first"));
    await store.write((tx) => askCancellation(tx, id, "second"));
    assert.equal(await findCancellation(store.db, id), "first");
    assert.deepEqual(await deafJobs(store.db, clock.now() - 1), []);
    const [deaf] = await deafJobs(store.db, clock.now());
    assert.equal(deaf?.job.id, id);
    assert.equal(deaf?.reason, "first");
    await store.write((tx) => dropCancellations(tx));
    assert.equal(await findCancellation(store.db, id), "first");
    const job = await jobOf(id);
    const end = { outcome: "cancelled", exitCode: null, reason: "first" } as const;
    await store.write((tx) => endJob(tx, job, end));
    assert.deepEqual(await deafJobs(store.db, clock.now()), []);
    await store.write((tx) => dropCancellations(tx));
    assert.equal(await findCancellation(store.db, id), null);
  });

  test("output and artifacts are counted", async () => {
    assert.equal(await logBytes(store.db, "native-a"), 0);
    assert.deepEqual(await artifactTotals(store.db, "native-a", "x"), { count: 0, bytes: 0 });
    const at = clock.now();
    await store.write(async (tx) => {
      const bytes = Buffer.from([0xff, 0x00, 0xc3]);
      await appendLog(tx, "native-a", [
        { seq: 1, at, stream: "stdout", bytes },
        { seq: 2, at, stream: "stderr", bytes },
      ]);
      const artifact = { size: 5_000_000_000, at };
      await addArtifact(tx, "native-a", { ...artifact, path: "x", sha256: "aa" });
      await addArtifact(tx, "native-a", { ...artifact, path: "y", sha256: "bb" });
    });
    assert.equal(await logBytes(store.db, "native-a"), 6);
    assert.deepEqual(await artifactTotals(store.db, "native-a", ""), {
      count: 2,
      bytes: 10_000_000_000,
    });
    assert.deepEqual(await artifactTotals(store.db, "native-a", "y"), {
      count: 1,
      bytes: 5_000_000_000,
    });
    assert.equal(await artifactContent(store.db, "native-a", "y"), "bb");
    assert.equal(await artifactContent(store.db, "native-a", "z"), null);
    assert.deepEqual(await artifactsAmong(store.db, ["aa", "cc"]), new Set(["aa"]));
    await store.write((tx) => dropArtifacts(tx, at + 1));
    assert.deepEqual(await artifactsAmong(store.db, ["aa", "bb"]), new Set());
  });

  test("trees are in use while a job waits or runs", async () => {
    const tree = (letter: string) =>
      ({ kind: "tree", sha256: letter.repeat(64), commit: null }) as const;
    await submit("a", ["linux"], { source: tree("a") });
    await submit("b", ["linux"], { source: tree("b") });
    await submit("c", ["linux"], {
      source: { kind: "git", url: "https://example.com/x", revision: "main" },
    });
    await up("r1");
    await take("r1");
    assert.deepEqual(await treesInUse(store.db), new Set(["a".repeat(64), "b".repeat(64)]));
    const job = await jobOf("native-a");
    const end = { outcome: "success", exitCode: 0, reason: "" } as const;
    await store.write((tx) => endJob(tx, job, end));
    const fetched = await jobOf("native-c");
    assert.ok(fetched.work);
    const named = { id: fetched.id, work: fetched.work };
    await store.write((tx) => setSource(tx, named, tree("c")));
    assert.deepEqual(await treesInUse(store.db), new Set(["b".repeat(64), "c".repeat(64)]));
  });
});
