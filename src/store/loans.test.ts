import assert from "node:assert/strict";
import { test } from "node:test";
import type { Loan } from "../domain/loan.ts";
import { labelClass } from "../domain/matching.ts";
import { placed, sampleClaim, sampleSighting } from "../../test/samples.ts";
import { HandClock, onBothEngines } from "../../test/stores.ts";
import { noteStart } from "./guest.ts";
import { recordSightings } from "./jobs.ts";
import { takeLease } from "./leases.ts";
import {
  closeEnded,
  countLoans,
  countOpenLoans,
  endLoan,
  findLoan,
  insertLoans,
  loanOfClass,
  loansOf,
  loansOfRun,
  lockLoans,
  noteReady,
  openLoans,
  runnerOfLoan,
  settleLoans,
  spentToday,
} from "./loans.ts";
import { findJob, poolTotal } from "./questions.ts";
import { prune } from "./retention.ts";
import { moveRunner, recordClaims } from "./runners.ts";
import type { Store } from "./store.ts";

const dayMs = 24 * 3600_000;

function loan(label: string, architecture: string, at: number, changes: Partial<Loan> = {}): Loan {
  const labels = [label, `arch_${architecture}`];
  return {
    ...{ id: `${label}.${architecture}`, job: `broker-${label}.${architecture}`, label },
    ...{ architecture, labels, labelClass: labelClass(labels), pool: "small", forge: "acme" },
    ...{ repository: "acme/rocket", run: "7", attempt: 1, isConfirmed: true, trust: "fork" },
    ...{ url: null, address: "192.0.2.1", lentAt: at, readyAt: null, overAt: null, reason: "" },
    ...{ reservedMicroUsd: 3_000_000_000, spentMicroUsd: null },
    ...changes,
  };
}

async function lend(store: Store, ...loans: Loan[]): Promise<void> {
  await store.write((tx) => insertLoans(tx, loans));
  const jobs = loans.map(({ id, labels }) =>
    placed(sampleSighting({ forge: "broker", externalId: id, labels })),
  );
  await store.write((tx) => recordSightings(tx, jobs));
}

onBothEngines("loans", (under) => {
  test("are found by all that they are asked for by, as they were written", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const [x, arm] = [loan("a_1", "x86_64", clock.at), loan("a_1", "arm64", clock.at)];
    await lend(store, x, arm);
    assert.deepEqual(await loansOf(store.db, "a_1"), [arm, x]);
    assert.deepEqual(await findLoan(store.db, x.id), x);
    assert.equal(await findLoan(store.db, "a_1"), null);
    assert.deepEqual(await loanOfClass(store.db, "small", arm.labelClass), arm);
    assert.equal((await loansOfRun(store.db, "acme/rocket", "7")).length, 2);
    assert.equal(await countOpenLoans(store.db), 2);
    await assert.rejects(store.write((tx) => insertLoans(tx, [x])));
  });

  test("are counted for the caps and the budget of their day", async () => {
    const clock = new HandClock();
    clock.at -= clock.at % dayMs;
    const store = await under.open(clock);
    const early = clock.at - 1;
    await lend(
      store,
      loan("old_1", "x86_64", early, { run: "1" }),
      loan("a_1", "x86_64", clock.at),
      loan("a_1", "arm64", clock.at, { address: "192.0.2.2" }),
      loan("b_1", "x86_64", clock.at, { repository: "acme/boat", attempt: 2 }),
    );
    clock.advance(1000);
    const of = { repository: "acme/rocket", run: "7", attempt: 1, address: "192.0.2.1" };
    const counts = await countLoans(store.db, clock.at, {
      ...of,
      architectures: ["x86_64", "arm64"],
    });
    assert.deepEqual(counts, {
      ...{ ofRun: 1, openOfRepository: 3, lastHourOfAddress: 3, lastHour: 4 },
      todayMicroUsd: 9_000_000_000,
    });
    const none = await countLoans(store.db, clock.at, {
      ...of,
      run: "9",
      architectures: ["x86_64"],
    });
    assert.equal(none.ofRun, 0);
    assert.equal(await spentToday(store.db, clock.at + dayMs), 0);
  });

  test("end once, with their job; what they cost takes the place of what was kept", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const one = loan("a_1", "x86_64", clock.at);
    await lend(store, one);
    await store.write(async (tx) => {
      const lease = await takeLease(tx, "pool/small", "tests", 60_000);
      assert.ok(lease);
      const { labels } = one;
      const price = { microUsdPerHour: 3600, quantumSeconds: 1, minimumSeconds: 0 };
      await recordClaims(tx, lease, [sampleClaim("m-small-a", { labels, price })], 10);
    });
    assert.equal((await runnerOfLoan(store.db, one))?.name, "m-small-a");
    await store.write((tx) => noteReady(tx, one, "registered"));
    clock.advance(10_000);
    await store.write((tx) => noteReady(tx, one, "again"));
    assert.equal((await findLoan(store.db, one.id))?.readyAt, clock.at - 10_000);

    const end = () => store.write((tx) => endLoan(tx, one, "cancelled", "its run is over"));
    assert.deepEqual([await end(), await end()], [true, false]);
    const job = await findJob(store.db, one.job);
    assert.deepEqual(
      [job?.state, job?.outcome, job?.reason],
      ["ended", "cancelled", "its run is over"],
    );
    assert.deepEqual(await openLoans(store.db), []);

    await store.write((tx) => settleLoans(tx));
    assert.equal(
      (await findLoan(store.db, one.id))?.spentMicroUsd,
      null,
      "its machine is not gone",
    );
    clock.advance(20_000);
    await store.write((tx) => moveRunner(tx, "m-small-a", "gone", { reason: "gone" }));
    await store.write((tx) => settleLoans(tx));
    assert.equal((await findLoan(store.db, one.id))?.spentMicroUsd, 30);
    assert.equal(await spentToday(store.db, clock.at), 30);
    clock.advance(91 * dayMs);
    await prune(store, clock.at);
    assert.deepEqual(await loansOf(store.db, "a_1"), []);
  });

  test("whose job the forge ended are over, and one without a job may be ended", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const [told, lost] = [loan("a_1", "x86_64", clock.at), loan("b_1", "x86_64", clock.at)];
    await lend(store, told);
    await store.write((tx) => insertLoans(tx, [lost]));
    const more = { state: "ended", outcome: "failure", endedAt: clock.at } as const;
    const sighting = sampleSighting({
      forge: "broker",
      externalId: told.id,
      labels: told.labels,
      ...more,
    });
    await store.write((tx) => recordSightings(tx, [placed(sighting)]));
    await store.write((tx) => closeEnded(tx));
    assert.equal((await findLoan(store.db, told.id))?.reason, "its job ended: failure");
    assert.deepEqual(
      (await openLoans(store.db)).map(({ id }) => id),
      [lost.id],
    );
    assert.equal(await store.write((tx) => endLoan(tx, lost, "cancelled", "gone")), true);
  });

  test("begin with what their machine's guest says, so that no other is made for them", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const one = loan("a_1", "x86_64", clock.at);
    await lend(store, one);
    await store.write(async (tx) => {
      const lease = await takeLease(tx, "pool/small", "tests", 60_000);
      assert.ok(lease);
      const claim = sampleClaim("m-small-a", { labels: one.labels, forge: "broker" });
      await recordClaims(tx, lease, [claim], 10);
      await moveRunner(tx, "m-small-a", "up", { reason: "up" });
    });
    await store.write((tx) => noteStart(tx, "m-small-a"));
    const job = await findJob(store.db, one.job);
    assert.deepEqual([job?.state, job?.runner], ["started", "m-small-a"]);
    await store.write((tx) => moveRunner(tx, "m-small-a", "ended", { reason: "its job is over" }));
    const { waiting, busy, idle } = await poolTotal(store.db, "small");
    assert.deepEqual({ waiting, busy, idle }, { waiting: 0, busy: 0, idle: 0 });
    await store.write((tx) => noteStart(tx, "m-small-a"));
  });

  test("are counted and made by one replica at a time", async (t) => {
    if (under.again === null) return t.skip("one process has one writer");
    const clock = new HandClock();
    const stores = [await under.open(clock), await under.again(clock)];
    const architectures = ["x86_64"];
    const make = (n: number): Promise<boolean> =>
      (stores[n % 2] as Store).write(async (tx) => {
        await lockLoans(tx);
        const one = loan(`a_${n}`, "x86_64", tx.now);
        const counts = await countLoans(tx.db, tx.now, { ...one, architectures });
        if (counts.openOfRepository >= 3) return false;
        await insertLoans(tx, [one]);
        return true;
      });
    const made = await Promise.all(Array.from({ length: 20 }, (_, n) => make(n)));
    assert.equal(made.filter(Boolean).length, 3);
  });
});
