import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MayflyError } from "../domain/errors.ts";
import { placed, sampleClaim, samplePool, sampleSighting } from "../../test/samples.ts";
import { HandClock, onBothEngines } from "../../test/stores.ts";
import { addFacts, factsAfter, history } from "./facts.ts";
import { recordSightings } from "./jobs.ts";
import { checkLease, releaseLease, takeLease } from "./leases.ts";
import { appendLog, logTail, readLog } from "./logs.ts";
import {
  dueRunners,
  findJob,
  findRunner,
  listJobs,
  nextDue,
  poolTotal,
  surplusClasses,
  wantingClasses,
} from "./questions.ts";
import { moveRunner, postponeRunner, recordClaims } from "./runners.ts";
import { settingOnce } from "./settings.ts";
import { seeAgain } from "./sightings.ts";
import { Store, type Tx } from "./store.ts";
import { recount } from "./tallies.ts";

const pool = samplePool();

async function claim(store: Store, names: readonly string[], max = 10): Promise<readonly string[]> {
  return store.write(async (tx) => {
    const lease = await takeLease(tx, "pool/small", "me", 60_000);
    assert.ok(lease);
    return recordClaims(
      tx,
      lease,
      names.map((name) => sampleClaim(name)),
      max,
    );
  });
}

onBothEngines("the store", (under) => {
  test("a job is seen once however often it is told, and never moves back", async () => {
    const store = await under.open(new HandClock());
    const waiting = placed(sampleSighting());
    const started = placed(sampleSighting({ state: "started", runner: "m-small-a" }));
    const told = (items: ReturnType<typeof placed>[]) =>
      store.write((tx) => recordSightings(tx, items));

    assert.deepEqual(await told([waiting, waiting]), ["acme-1"]);
    assert.deepEqual(await told([waiting]), []);
    assert.deepEqual(await told([started]), ["acme-1"]);
    assert.deepEqual(await told([waiting]), []);
    assert.equal((await findJob(store.db, "acme-1"))?.state, "started");
    assert.equal((await poolTotal(store.db, "small")).waiting, 0);
  });

  test("counts follow jobs and runners through their whole lives, to nothing", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    await store.write((tx) => recordSightings(tx, [placed(sampleSighting())]));
    assert.deepEqual(await gaps(store), { wanting: 1, surplus: 0 });

    await claim(store, ["m-small-a"]);
    assert.deepEqual(await gaps(store), { wanting: 0, surplus: 0 });
    await store.write((tx) => moveRunner(tx, "m-small-a", "asked", { reason: "made" }));
    await store.write((tx) => moveRunner(tx, "m-small-a", "up", { reason: "came up" }));
    assert.deepEqual(await poolTotal(store.db, "small"), counts({ waiting: 1, idle: 1 }));

    const runner = { runner: "m-small-a" };
    await store.write((tx) =>
      recordSightings(tx, [placed(sampleSighting({ state: "started", ...runner }))]),
    );
    assert.deepEqual(await poolTotal(store.db, "small"), counts({ busy: 1 }));
    await store.write((tx) =>
      recordSightings(tx, [
        placed(sampleSighting({ state: "ended", outcome: "success", ...runner })),
      ]),
    );
    assert.deepEqual(await poolTotal(store.db, "small"), counts({ ending: 1 }));
    clock.advance(1000);
    await store.write((tx) => moveRunner(tx, "m-small-a", "gone", { reason: "confirmed" }));
    assert.deepEqual(await poolTotal(store.db, "small"), counts({}));
    const left = await store.db.selectFrom("tallies").selectAll().execute();
    assert.deepEqual(left, []);
  });

  test("counts that went wrong are found and mended", async () => {
    const store = await under.open(new HandClock());
    await store.write((tx) =>
      recordSightings(tx, [
        placed(sampleSighting({ externalId: "1" })),
        placed(sampleSighting({ externalId: "2", labels: ["arm"] })),
      ]),
    );
    await claim(store, ["m-small-a"]);
    const right = await store.db.selectFrom("tallies").selectAll().orderBy("label_class").execute();
    assert.equal(await store.write((tx) => recount(tx, "small"), { alone: true }), 0);

    await store.db.updateTable("tallies").set({ waiting: 7 }).execute();
    await store.db.updateTable("totals").set({ waiting: 3, busy: 9 }).execute();
    assert.equal(await store.write((tx) => recount(tx, "small"), { alone: true }), 2);
    const mended = await store.db
      .selectFrom("tallies")
      .selectAll()
      .orderBy("label_class")
      .execute();
    assert.deepEqual(
      mended.map(({ waiting, booting, gap }) => ({ waiting, booting, gap })),
      right.map(({ waiting, booting, gap }) => ({ waiting, booting, gap })),
    );
    assert.deepEqual(await poolTotal(store.db, "small"), counts({ waiting: 2, booting: 1 }));
  });

  test("a unit that fails is undone alone; the others of its group are kept", async () => {
    const store = await under.open(new HandClock());
    const note = (subject: string) => (tx: Tx) =>
      addFacts(tx, [{ subjectKind: "pool", subject, kind: "noted", reason: "r" }]);
    const results = await Promise.allSettled([
      store.write(note("one")),
      store.write(async (tx) => {
        await note("two")(tx);
        await recordSightings(tx, [placed(sampleSighting())]);
        throw new Error("on purpose");
      }),
      store.write(note("three")),
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    // In whatever order: on PostgreSQL units are transactions beside each other.
    const facts = await factsAfter(store.db, 0);
    assert.deepEqual(facts.map(({ subject }) => subject).sort(), ["one", "three"]);
    assert.equal((await poolTotal(store.db, "small")).waiting, 0);
  });

  test("a statement the engine refuses undoes its unit alone, too", async () => {
    const store = await under.open(new HandClock());
    const write = (key: string) =>
      store.write(({ db }) => db.insertInto("settings").values({ key, value: "v" }).execute());
    await write("taken");
    const results = await Promise.allSettled([write("a"), write("taken"), write("b")]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
  });

  test("listeners are woken after the commit, and not for what was undone", async () => {
    const store = await under.open(new HandClock());
    const heard: string[] = [];
    store.onWake((topic) => heard.push(topic));
    await store.write((tx) => recordSightings(tx, [placed(sampleSighting())]));
    assert.ok(heard.includes("pool/small"));
    assert.ok(heard.includes("job/acme-1"));
    heard.length = 0;
    await assert.rejects(
      store.write((tx) => {
        tx.wake("pool/never");
        throw new Error("on purpose");
      }),
    );
    assert.ok(!heard.includes("pool/never"));
  });

  test("claims never go beyond the maximum, whatever was planned", async () => {
    const store = await under.open(new HandClock());
    assert.deepEqual(await claim(store, ["m-small-a", "m-small-b", "m-small-c"], 2), [
      "m-small-a",
      "m-small-b",
    ]);
    assert.deepEqual(await claim(store, ["m-small-d"], 2), []);
    await store.write((tx) => moveRunner(tx, "m-small-a", "ended", { reason: "r" }));
    assert.deepEqual(await claim(store, ["m-small-d"], 2), [], "one being removed still counts");
    await store.write((tx) => moveRunner(tx, "m-small-a", "gone", { reason: "r" }));
    assert.deepEqual(await claim(store, ["m-small-d"], 2), ["m-small-d"]);
  });

  test("a runner moves forward only; doubled and late news change nothing", async () => {
    const store = await under.open(new HandClock());
    await claim(store, ["m-small-a"]);
    const move = (to: "asked" | "up" | "ended") =>
      store.write((tx) => moveRunner(tx, "m-small-a", to, { reason: to }));
    assert.equal(await move("up"), true);
    assert.equal(await move("asked"), false);
    assert.equal(await move("up"), false);
    assert.equal(await move("ended"), true);
    assert.equal(await move("up"), false);
    const runner = await findRunner(store.db, "m-small-a");
    assert.equal(runner?.state, "ended");
    assert.deepEqual(
      (await history(store.db, "m-small-a")).map(({ kind }) => kind),
      ["claimed", "up", "ended"],
    );
  });

  test("what a machine cost is final when it is gone", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const price = { microUsdPerHour: 3_600_000, quantumSeconds: 1, minimumSeconds: 60 };
    await store.write(async (tx) => {
      const lease = await takeLease(tx, "pool/small", "me", 60_000);
      assert.ok(lease);
      await recordClaims(tx, lease, [sampleClaim("a", { price }), sampleClaim("b", { price })], 9);
      await moveRunner(tx, "b", "ended", { reason: "refused", isUnborn: true });
    });
    clock.advance(90_000);
    await store.write(async (tx) => {
      await moveRunner(tx, "a", "gone", { reason: "r" });
      await moveRunner(tx, "b", "gone", { reason: "refused" });
    });
    assert.equal((await findRunner(store.db, "a"))?.costMicroUsd, 90_000);
    assert.equal((await findRunner(store.db, "b"))?.costMicroUsd, 0);
  });

  test("runners are due when their time has come, and postponed with a fact", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    await claim(store, ["m-small-a"]);
    const due = async () => (await dueRunners(store.db, "small", clock.at, 10)).map((r) => r.name);
    assert.deepEqual(await due(), ["m-small-a"]);
    const claimed = { name: "m-small-a", state: "claimed" as const };
    await store.write((tx) => postponeRunner(tx, claimed, clock.at + 5000, "no answer"));
    assert.deepEqual(await due(), []);
    assert.equal(await nextDue(store.db, "small", clock.at), clock.at + 5000);
    clock.advance(5000);
    assert.deepEqual(await due(), ["m-small-a"]);
    assert.equal((await findRunner(store.db, "m-small-a"))?.tries, 1);
    assert.deepEqual(
      (await history(store.db, "m-small-a")).map(({ reason }) => reason),
      ["1 job waiting", "no answer"],
    );
  });

  test("a runner that moved on is not put off by what was decided before", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    await claim(store, ["m-small-a"]);
    const asClaimed = { name: "m-small-a", state: "claimed" as const };
    await store.write((tx) => moveRunner(tx, "m-small-a", "ended", { reason: "r" }));
    await store.write((tx) => postponeRunner(tx, asClaimed, clock.at + 3_600_000, "too late"));
    const runner = await findRunner(store.db, "m-small-a");
    assert.equal(runner?.dueAt, clock.at);
    assert.equal(runner.tries, 0);
  });

  test("a lease has one holder; a new holder's fence refuses the old one's writes", async () => {
    const store = await under.open(new HandClock());
    const take = (holder: string, ttlMs: number) =>
      store.write((tx) => takeLease(tx, "pool/small", holder, ttlMs));
    const first = await take("one", 60_000);
    assert.equal(first?.fence, 1);
    assert.equal(await take("two", 60_000), null);
    assert.equal((await take("one", 60_000))?.fence, 1, "renewing keeps the fence");

    await store.write((tx) => releaseLease(tx, first));
    const second = await take("two", 60_000);
    assert.equal(second?.fence, 2);
    await assert.rejects(
      store.write((tx) => checkLease(tx, first)),
      (error) => error instanceof MayflyError && error.code === "conflict",
    );
    await store.write((tx) => checkLease(tx, second));
  });

  test("output is kept in order, once, as the bytes it was", async () => {
    const store = await under.open(new HandClock());
    const frame = (seq: number, text: string) => ({
      seq,
      at: 1000 + seq,
      stream: "stdout" as const,
      bytes: Buffer.from(text, "latin1"),
    });
    await store.write((tx) => appendLog(tx, "j", [frame(0, "a\n"), frame(1, "\x00\xff\n")]));
    await store.write((tx) => appendLog(tx, "j", [frame(1, "other"), frame(2, "c")]));
    const read = await readLog(store.db, "j", -1);
    assert.deepEqual(
      read.map(({ bytes }) => Buffer.from(bytes).toString("latin1")),
      ["a\n", "\x00\xff\n", "c"],
    );
    assert.deepEqual(
      (await logTail(store.db, "j", 2)).map(({ seq }) => seq),
      [1, 2],
    );
    assert.deepEqual(await logTail(store.db, "none", 2), []);
  });

  test("something amiss counts from the second sighting in a row on", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const see = (names: readonly string[]) =>
      store.write((tx) => seeAgain(tx, "stray-machine", "box", names, 10_000));
    assert.deepEqual(await see(["a", "b"]), []);
    clock.advance(5000);
    assert.deepEqual(await see(["a", "b"]), [], "seen twice, but too soon");
    clock.advance(5000);
    assert.deepEqual(await see(["a"]), ["a"]);
    clock.advance(60_000);
    assert.deepEqual(await see(["b"]), [], "it was away in between");
    assert.deepEqual(await see([]), []);
  });

  test("a thousand jobs in one unit, listed newest first by pages", async () => {
    const store = await under.open(new HandClock());
    const many = Array.from({ length: 1200 }, (_, i) =>
      placed(sampleSighting({ externalId: String(i), queuedAt: 1000 + i })),
    );
    assert.equal((await store.write((tx) => recordSightings(tx, many))).length, 1200);
    const page = await listJobs(store.db, { pool: pool.name, state: "waiting", limit: 2 });
    assert.deepEqual(
      page.map(({ externalId }) => externalId),
      ["1199", "1198"],
    );
    const next = await listJobs(store.db, { before: page[1]?.queuedAt ?? 0, limit: 1 });
    assert.equal(next[0]?.externalId, "1197");
    assert.equal((await poolTotal(store.db, "small")).waiting, 1200);
  });

  test("a setting is made once", async () => {
    const store = await under.open(new HandClock());
    const first = await store.write((tx) => settingOnce(tx, "installation", () => "abc"));
    const second = await store.write((tx) => settingOnce(tx, "installation", () => "def"));
    assert.deepEqual([first, second], ["abc", "abc"]);
  });

  test(
    "another replica hears of a change",
    { skip: under.again === null && "one process" },
    async (t) => {
      const clock = new HandClock();
      const store = await under.open(clock);
      const other = await under.again?.(clock);
      assert.ok(other);
      const heard = new Promise<string>((resolve) => other.onWake(resolve));
      // The listener connects on its own: tell until it hears.
      const telling = setInterval(
        () => void store.write((tx) => Promise.resolve(tx.wake("pool/x"))),
        50,
      );
      t.after(() => clearInterval(telling));
      assert.equal(await heard, "pool/x");
    },
  );

  test(
    "two replicas that record the same jobs at once count each once",
    { skip: under.again === null && "one process" },
    async () => {
      const clock = new HandClock();
      const store = await under.open(clock);
      const other = await under.again?.(clock);
      assert.ok(other);
      const some = Array.from({ length: 50 }, (_, i) =>
        placed(sampleSighting({ externalId: `${i}` })),
      );
      const told = await Promise.all(
        [store, other, store, other].map((s) => s.write((tx) => recordSightings(tx, some))),
      );
      assert.equal(told.flat().length, 50);
      assert.equal((await poolTotal(store.db, "small")).waiting, 50);
      assert.equal(await store.write((tx) => recount(tx, "small"), { alone: true }), 0);
    },
  );
});

test("a second process on one folder is refused, and told which holds it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mayfly-store-"));
  const first = await Store.open({ engine: "sqlite", folder }, Date.now);
  await assert.rejects(
    Store.open({ engine: "sqlite", folder }, Date.now),
    (error) =>
      error instanceof MayflyError &&
      error.code === "conflict" &&
      error.message.includes(String(process.pid)),
  );
  await first.close();
  await (await Store.open({ engine: "sqlite", folder }, Date.now)).close();
  rmSync(folder, { recursive: true, force: true });
});

test("a file that is no database is a clear error, and nothing is touched", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mayfly-store-"));
  writeFileSync(join(folder, "mayfly.db"), "this is somebody's shopping list\n".repeat(100));
  await assert.rejects(
    Store.open({ engine: "sqlite", folder }, Date.now),
    (error) => error instanceof MayflyError && error.code === "unavailable",
  );
  rmSync(folder, { recursive: true, force: true });
});

async function gaps(store: Store): Promise<{ wanting: number; surplus: number }> {
  const wanting = await wantingClasses(store.db, "small", 10);
  const surplus = await surplusClasses(store.db, "small", 10);
  return { wanting: wanting.length, surplus: surplus.length };
}

function counts(changes: Partial<Record<string, number>>): Record<string, unknown> {
  return { waiting: 0, booting: 0, idle: 0, busy: 0, ending: 0, ...changes };
}
