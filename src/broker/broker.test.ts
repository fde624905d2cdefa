import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { MayflyError } from "../domain/errors.ts";
import { findJob, listJobs } from "../store/questions.ts";
import { loansOf, openLoans, runnerOfLoan, spentToday } from "../store/loans.ts";
import { moveRunner } from "../store/runners.ts";
import {
  beginRun,
  boot,
  brokerWorld,
  jobOf,
  round,
  wish,
  type BrokerWorld,
  type WorldChanges,
} from "./testing.ts";

const uuid = "0123456789abcdef0123456789abcdef";
const other = "fedcba9876543210fedcba9876543210";
const both = ["x86_64", "arm64"] as const;
const never = new AbortController().signal;
const addresses = (n: number): string => `198.51.${n >> 8}.${n & 255}`;

async function open(t: TestContext, changes: WorldChanges = {}): Promise<BrokerWorld> {
  const world = await brokerWorld(changes);
  t.after(() => world.close());
  return world;
}

function refuses(code: MayflyError["code"], message: RegExp): (error: unknown) => boolean {
  return (error) => {
    const { code: is, message: said, hint = "" } = error as MayflyError;
    assert.equal(is, code, said);
    assert.match(`${said} ${hint}`, message);
    return true;
  };
}

/** Nothing was recorded: no loan, no job. */
async function assertNothing({ store }: BrokerWorld): Promise<void> {
  assert.deepEqual(await openLoans(store.db), []);
  assert.deepEqual(await listJobs(store.db), []);
}

/** How many questions the forge was asked. */
function asked({ fake }: BrokerWorld): number {
  return fake.records.length;
}

test("a run in progress gets its machines, and is told once they are registered", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  await world.broker.lend(wish(label, ...both), "192.0.2.1");
  const jobs = await listJobs(world.store.db);
  assert.deepEqual(jobs.map(({ name, pool, labels }) => [name, pool, labels]).toSorted(byText), [
    [`arm64 lent to acme/widget run ${run.id}`, "arm", [label, "arch_arm64"]],
    [`x86_64 lent to acme/widget run ${run.id}`, "intel", [label, "arch_x86_64"]],
  ]);
  const ready = world.broker.ready(wish(label, ...both), "192.0.2.1", never);
  await boot(world);
  await ready;
  const registered = [...world.fake.state.runners.values()].map(({ labels }) => labels.toSorted());
  assert.deepEqual(registered.toSorted(byText), [
    ["arch_arm64", label],
    ["arch_x86_64", label],
  ]);
});

test("the first wire version names the architecture in the label alone", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1_arm64`;
  const first = { ...wish(label, "arm64"), isInLabel: true };
  await world.broker.lend(first, null);
  await boot(world);
  await world.broker.ready(first, null, never);
  assert.deepEqual(
    [...world.fake.state.runners.values()].map(({ labels }) => labels),
    [[label]],
  );
  await assert.rejects(
    world.broker.lend({ ...first, architectures: ["x86_64"] }, null),
    refuses("invalid", /must end in _x86_64/),
  );
  await assert.rejects(
    world.broker.lend(wish(label, "x86_64"), null),
    refuses("invalid", /must not name an architecture/),
  );
});

test("what cannot be lent is refused in one sentence, and records nothing", async (t) => {
  const world = await open(t, { settings: { workflows: ["ci.yml"] } });
  const { broker, fake } = world;
  const run = beginRun(world);
  const foreign = fake.state.run(fake.state.repository("secret"), null);
  fake.state.job(foreign, ["x"]);
  const finished = beginRun(world);
  finished.hasMore = false;
  fake.state.end(fake.state.jobsOf(finished)[0]!, "success");
  const refused: [string, readonly string[], MayflyError["code"], RegExp][] = [
    ["", ["x86_64"], "invalid", /no label/],
    ["rr_runner_x", ["x86_64"], "invalid", /They read mayfly_/],
    [`mayfly_${run.id}_1\n`, ["x86_64"], "invalid", /no label/],
    [`mayfly_${run.id}_1;curl evil`, ["x86_64"], "invalid", /no label/],
    [`mayfly_${run.id}_1 `, ["x86_64"], "invalid", /no label/],
    [`mayfly_${run.id}_1`, ["riscv"], "invalid", /x86_64 and arm64/],
    [`mayfly_${run.id}_2`, ["x86_64"], "conflict", /attempt 1/],
    ["mayfly_999999999_1", ["x86_64"], "forbidden", /not in progress/],
    [`mayfly_${foreign.id}_1`, ["x86_64"], "forbidden", /not in progress/],
    [`mayfly_${finished.id}_1`, ["x86_64"], "forbidden", /not in progress/],
  ];
  for (const [label, architectures, code, message] of refused) {
    await assert.rejects(
      broker.lend(wish(label, ...architectures), null),
      refuses(code, message),
      label,
    );
  }
  await assert.rejects(
    broker.lend({ ...wish(`mayfly_${run.id}_1`, "x86_64"), repository: "acme/other" }, null),
    refuses("forbidden", /may not borrow/),
  );
  await assert.rejects(
    broker.lend({ ...wish(`mayfly_${run.id}_1`, "x86_64"), run: "5" }, null),
    refuses("invalid", /another run/),
  );
  await assertNothing(world);
});

test("only the workflows named may borrow", async (t) => {
  const world = await open(t, { settings: { workflows: ["release.yml"] } });
  const run = beginRun(world);
  await assert.rejects(
    world.broker.lend(wish(`mayfly_${run.id}_1`, "x86_64"), null),
    refuses("forbidden", /not in progress/),
  );
  await assertNothing(world);
});

test("a stranger's run gets no machine of a pool that takes no forks", async (t) => {
  const world = await open(t, { pool: { accept: ["trusted"] } });
  const run = beginRun(world, "stranger/widget");
  await assert.rejects(
    world.broker.lend(wish(`mayfly_${run.id}_1`, "x86_64"), null),
    refuses("forbidden", /only jobs that are trusted/),
  );
  await assertNothing(world);
});

test("a flood of well-formed nonsense costs the forge a handful of questions, and nothing is kept", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const startedAt = world.clock.now();
  const refusals = await Promise.all(
    Array.from({ length: 2_000 }, (_, n) =>
      world.broker.lend(wish(`mayfly_${1_000_000 + n}_1`, "x86_64"), addresses(n)).then(
        () => "lent",
        ({ code }: MayflyError) => code,
      ),
    ),
  );
  const other = refusals.filter((code) => !["forbidden", "too_many", "unavailable"].includes(code));
  assert.deepEqual(other, []);
  // A few runs a minute by their number, and two lists (runs queued, and in progress) in three seconds.
  const now = world.clock.now();
  const seconds = (now - startedAt) / 1000;
  const minutes = Math.floor(now / 60_000) - Math.floor(startedAt / 60_000) + 1;
  assert.ok(asked(world) <= 20 * minutes + 4 + seconds, `${asked(world)} questions`);
  await assertNothing(world);
  // An honest one is lent all the same, as soon as the forge answers.
  const honest = wish(`mayfly_${run.id}_1`, "x86_64");
  for (let isLent = false; !isLent;) {
    isLent = await world.broker.lend(honest, addresses(3)).then(
      () => true,
      ({ code }: MayflyError) => {
        assert.ok(code === "too_many" || code === "unavailable", code);
        return sleep(100, false);
      },
    );
  }
  assert.equal((await openLoans(world.store.db)).length, 1);
});

test("an address that asks without end is told to wait, by its network for IPv6", async (t) => {
  const { broker } = await open(t);
  const admitted = (address: string): boolean => {
    try {
      broker.admit(address);
      return true;
    } catch (error) {
      return !refuses("too_many", /too often/)(error);
    }
  };
  const tries = Array.from({ length: 100 }, (_, n) => admitted(`2001:db8:1:2::${n.toString(16)}`));
  assert.ok(tries.filter(Boolean).length < 40);
  assert.ok(admitted("2001:db8:1:3::1"), "its neighbour is heard");
});

test("while the forge does not answer nothing is lent, and its trouble is not told to strangers", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  world.fake.outage = "error";
  await assert.rejects(
    world.broker.lend(wish(`mayfly_${run.id}_1`, "x86_64"), null),
    refuses("unavailable", /^the forge could not be asked about the run Ask again/),
  );
  await assertNothing(world);
});

test("asked again, an order is the same; its machines are made once", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  const asks = Array.from({ length: 20 }, (_, n) =>
    world.broker.lend(wish(label, ...both), addresses(n)),
  );
  for (const machines of await Promise.all(asks)) assert.equal(machines.length, 2);
  await world.broker.lend(wish(label, "x86_64"), null);
  assert.equal((await listJobs(world.store.db)).length, 2);
  assert.equal((await openLoans(world.store.db)).length, 2);
});

test("an attempt has its machines once; another attempt has others", async (t) => {
  const world = await open(t, { settings: { label: "mayfly_{run}_{attempt}_{id}" } });
  const run = beginRun(world);
  const label = (attempt: number, id: string): string => `mayfly_${run.id}_${attempt}_${id}`;
  await world.broker.lend(wish(label(1, uuid), "x86_64"), null);
  await assert.rejects(
    world.broker.lend(wish(label(1, other), "x86_64"), null),
    refuses("conflict", /has had its machines/),
  );
  await world.broker.lend(wish(label(1, other), "arm64"), null);
  run.attempt = 2;
  world.clock.offsetMs += 10_000;
  await assert.rejects(
    world.broker.lend(wish(label(1, `${other}1`), "x86_64"), null),
    refuses("conflict", /attempt 2/),
  );
  await world.broker.lend(wish(label(2, other), "x86_64"), null);
});

test("caps hold for a repository, an address and an hour", async (t) => {
  const settings = { perRepository: 2, perAddress: 3, perHour: 5 };
  const world = await open(t, { settings });
  const { broker, fake } = world;
  const ask = async (address: string): Promise<string> => {
    const run = beginRun(world);
    world.clock.offsetMs += 10_000;
    const label = `mayfly_${run.id}_1`;
    await broker.lend(wish(label, "x86_64"), address);
    return label;
  };
  const finish = async (label: string): Promise<void> => {
    const [, id] = label.split("_");
    const run = fake.state.runs.get(Number(id));
    assert.ok(run);
    run.hasMore = false;
    for (const job of fake.state.jobsOf(run)) fake.state.end(job, "success");
    world.clock.offsetMs += 10_000;
    await broker.giveBack([label]);
  };
  const first = await ask("192.0.2.1");
  const second = await ask("192.0.2.1");
  await assert.rejects(ask("192.0.2.2"), refuses("too_many", /repository has 2 machines/));
  await finish(first);
  await finish(second);
  await finish(await ask("192.0.2.1"));
  await assert.rejects(ask("192.0.2.1"), refuses("too_many", /this address/));
  await finish(await ask("192.0.2.2"));
  await finish(await ask("192.0.2.2"));
  await assert.rejects(ask("192.0.2.3"), refuses("too_many", /of this hour/));
  world.clock.offsetMs += 3600_000;
  await ask("192.0.2.1");
});

test("the day's budget is kept for what is lent, settled by what it cost, and told of", async (t) => {
  const price = { microUsdPerHour: 1_000_000, quantumSeconds: 1, minimumSeconds: 0 };
  const pool = { bootDeadlineSeconds: 300, jobDeadlineSeconds: 3600 };
  // Each is kept 1.25 + 1/12 dollars for: boot, wait and job at a dollar an hour.
  const world = await open(t, { price, pool, settings: { microUsdPerDay: 3_000_000 } });
  const { broker, fake, store } = world;
  const runs = [beginRun(world), beginRun(world), beginRun(world)];
  const ask = (n: number) => broker.lend(wish(`mayfly_${runs[n]?.id}_1`, "x86_64"), null);
  await ask(0);
  assert.equal((await broker.stats()).state, "well");
  await ask(1);
  assert.equal((await broker.stats()).state, "low");
  assert.deepEqual(world.logged.filter((line) => line.includes("nearly lent")).length, 1);
  await assert.rejects(
    ask(2),
    refuses("forbidden", /budget has \$0\.3333 left, and this may cost \$1\.33/),
  );
  await assert.rejects(ask(2), refuses("forbidden", /budget/));
  assert.equal((await broker.stats()).state, "refusing");
  assert.equal(world.logged.filter((line) => line.includes("refuses an order")).length, 1);

  await boot(world);
  const [loan] = await loansOf(store.db, `mayfly_${runs[0]?.id}_1`);
  assert.ok(loan);
  const runner = await runnerOfLoan(store.db, loan);
  assert.ok(runner);
  for (const job of fake.state.jobsOf(runs[0]!)) fake.state.end(job, "success");
  runs[0]!.hasMore = false;
  world.clock.offsetMs += 36_000;
  await round(world);
  await store.write((tx) => moveRunner(tx, runner.name, "gone", { reason: "a test" }));
  const before = await spentToday(store.db, world.clock.now());
  await round(world);
  const after = await spentToday(store.db, world.clock.now());
  // Half a minute at a tenth of a dollar an hour in place of what was kept.
  assert.ok(before - after > 1_300_000, `${before} -> ${after}`);
  await ask(2);
});

test("the job is told by its forge too, and makes no second machine", async (t) => {
  const world = await open(t);
  const { fake, store, home, intake } = world;
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  await world.broker.lend(wish(label, "x86_64"), null);
  const [runner] = await boot(world);
  assert.ok(runner);
  const job = jobOf(world, run, label, "arch_x86_64");
  const tell = async (): Promise<void> => {
    const { sightings } = await home.verify(fake.state.jobEvent(job));
    await intake.record(sightings);
  };
  await tell();
  await round(world);
  assert.equal(
    (await listJobs(store.db)).filter(({ forge }) => forge === "acme").length,
    1,
    "only the setup",
  );
  fake.state.start(job, runner.name);
  await tell();
  const lent = await findJob(store.db, `broker-${label}.x86_64`);
  assert.deepEqual([lent?.state, lent?.runner], ["started", runner.name]);
  fake.state.end(job, "failure");
  await tell();
  await tell();
  await round(world);
  const over = await findJob(store.db, `broker-${label}.x86_64`);
  assert.deepEqual([over?.state, over?.outcome], ["ended", "failure"]);
  assert.ok((await listJobs(store.db)).every(({ externalId }) => externalId !== String(job.id)));
  assert.equal((await openLoans(store.db)).length, 0);
});

test("a job with such a label that nothing was lent for shows that no pool takes it", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const job = jobOf(world, run, `mayfly_${run.id}_1`, "arch_x86_64");
  const { sightings } = await world.home.verify(world.fake.state.jobEvent(job));
  await world.intake.record(sightings);
  const told = await findJob(world.store.db, `acme-${job.id}`);
  assert.deepEqual([told?.pool, told?.state], [null, "waiting"]);
});

test("only the run's own jobs, once over, let its machines be taken back", async (t) => {
  const world = await open(t, { settings: { label: "mayfly_{run}_{id}" } });
  const { broker, fake, store } = world;
  const run = beginRun(world);
  const label = `mayfly_${run.id}_${uuid}`;
  await broker.lend(wish(label, ...both), null);
  const runners = await boot(world);
  const later = (): void => void (world.clock.offsetMs += 10_000);
  const inUse = (message: RegExp): Promise<void> =>
    assert.rejects(broker.giveBack([label]), refuses("conflict", message));

  await inUse(/may still have jobs/);
  const jobs = both.map((one) => jobOf(world, run, label, `arch_${one}`));
  later();
  await inUse(/waits for its machine/);
  for (const job of jobs) {
    const runner = runners.find(({ labels }) => labels.includes(job.labels[1] ?? ""));
    assert.ok(runner);
    fake.state.start(job, runner.name);
  }
  later();
  await inUse(/runs on its machine/);
  fake.state.end(jobs[0]!, "success");
  later();
  await inUse(/runs on its machine for arm64/);
  assert.equal((await openLoans(store.db)).length, 2, "all or nothing");
  fake.state.end(jobs[1]!, "failure");
  later();
  await broker.giveBack([label]);
  assert.equal((await openLoans(store.db)).length, 0);
  const outcomes = (await listJobs(store.db, { forge: "broker" })).map(({ outcome }) => outcome);
  assert.deepEqual(outcomes.toSorted(byText), ["failure", "success"]);
  await broker.giveBack([label]);
  // Unknown is well; no label is not, and touches nothing.
  await broker.giveBack([`mayfly_1_${uuid}`]);
  await assert.rejects(broker.giveBack([label, "rm -rf"]), refuses("invalid", /no label/));
  await assert.rejects(broker.giveBack([""]), refuses("invalid", /no label/));
});

test("what its run never used ends with the run, and with its time", async (t) => {
  const world = await open(t);
  const { broker, fake, store } = world;
  const [ended, endless] = [beginRun(world), beginRun(world)];
  const labels = [ended, endless].map(({ id }) => `mayfly_${id}_1`);
  for (const label of labels) await broker.lend(wish(label, "x86_64"), null);
  await boot(world);
  ended.hasMore = false;
  for (const job of fake.state.jobsOf(ended)) fake.state.end(job, "cancelled");
  world.clock.offsetMs += 10_000;
  await round(world);
  assert.deepEqual(
    (await openLoans(store.db)).map(({ label }) => label),
    [labels[1]],
  );
  assert.match(
    (await findJob(store.db, `broker-${labels[0]}.x86_64`))?.reason ?? "",
    /run is over/,
  );
  world.clock.offsetMs += 900_000;
  await round(world);
  assert.match(
    (await findJob(store.db, `broker-${labels[1]}.x86_64`))?.reason ?? "",
    /within 900 s/,
  );
});

test("an order that is not registered in time is given up as a whole, and says why", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  await world.broker.lend(wish(label, ...both), null);
  const ready = world.broker.ready(wish(label, ...both), null, never);
  world.clock.offsetMs += 600_000;
  await assert.rejects(
    ready,
    refuses("conflict", /not registered within 600 s: pool (arm|intel) had no room/),
  );
  assert.equal((await openLoans(world.store.db)).length, 0);
  await assert.rejects(
    world.broker.ready(wish(label, ...both), null, never),
    refuses("conflict", /is over/),
  );
});

test("a runner that the forge does not register ends the order, and the answer says why", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  await world.broker.lend(wish(label, ...both), null);
  const told = assert.rejects(
    world.broker.ready(wish(label, ...both), null, never),
    refuses("conflict", /acme does not register its runner: .*lacks a permission/),
  );
  const message = "Resource not accessible by integration";
  world.fake.state.faults.refusals.push({ part: "generate-jitconfig", status: 403, message });
  await assert.rejects(boot(world));
  await told;
  assert.equal((await openLoans(world.store.db)).length, 0);
});

test("a failure of the forge that may pass does not end the order", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  await world.broker.lend(wish(`mayfly_${run.id}_1`, "x86_64"), null);
  const message = "Server Error";
  world.fake.state.faults.refusals.push({ part: "generate-jitconfig", status: 502, message });
  await assert.rejects(boot(world));
  assert.equal((await openLoans(world.store.db)).length, 1);
});

test("a label that names no run is lent to one that has a job at work, and found again by it", async (t) => {
  const world = await open(t, {
    settings: { label: "rr_runner_{id}" },
    pool: { accept: ["trusted", "fork"] },
  });
  const { broker, fake, store } = world;
  const label = `rr_runner_${uuid}`;
  await assert.rejects(
    broker.lend(wish(label, ...both), null),
    refuses("forbidden", /no run is in progress/),
  );
  await assertNothing(world);
  const idle = fake.state.run(fake.state.repository("widget"), null);
  idle.hasMore = true;
  fake.state.job(idle, ["ubuntu-latest"]);
  world.clock.offsetMs += 10_000;
  await assert.rejects(
    broker.lend(wish(label, ...both), null),
    refuses("forbidden", /no run is in progress/),
  );

  const [right, wrong] = [beginRun(world), beginRun(world)];
  world.clock.offsetMs += 10_000;
  await broker.lend(wish(label, ...both), null);
  const [guessed] = await openLoans(store.db);
  assert.deepEqual(
    [guessed?.run, guessed?.isConfirmed, guessed?.trust],
    [String(wrong.id), false, "fork"],
  );
  const runners = await boot(world);
  // The guess was wrong, and its run ends first: what was lent stays.
  wrong.hasMore = false;
  for (const job of fake.state.jobsOf(wrong)) fake.state.end(job, "success");
  world.clock.offsetMs += 10_000;
  await round(world);
  assert.equal((await openLoans(store.db)).length, 2);
  const job = jobOf(world, right, label, "arch_x86_64");
  world.clock.offsetMs += 10_000;
  await round(world);
  const [, found] = await loansOf(store.db, label);
  assert.deepEqual([found?.run, found?.isConfirmed], [String(right.id), true]);
  const runner = runners.find(({ labels }) => labels.includes("arch_x86_64"));
  assert.ok(runner);
  fake.state.start(job, runner.name);
  world.clock.offsetMs += 10_000;
  await round(world);
  assert.equal((await findJob(store.db, `broker-${label}.x86_64`))?.state, "started");

  // No more orders than there are runs that may have asked.
  const second = beginRun(world);
  world.clock.offsetMs += 10_000;
  await broker.lend(wish(`rr_runner_${other}`, ...both), null);
  assert.equal((await loansOf(store.db, `rr_runner_${other}`))[0]?.run, String(second.id));
  await assert.rejects(
    broker.lend(wish(`rr_runner_${other}1`, ...both), null),
    refuses("forbidden", /no run is in progress/),
  );
});

test("a loan whose job is lost has it again at the next poll", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  await world.broker.lend(wish(label, ...both), null);
  await world.store.db.deleteFrom("jobs").execute();
  await world.store.db.deleteFrom("tallies").execute();
  await world.store.db.deleteFrom("totals").execute();
  await world.intake.record(await world.lender.poll(never));
  assert.equal((await listJobs(world.store.db)).length, 2);
});

test("a runner that has not connected yet is nobody's to remove", async (t) => {
  const world = await open(t);
  const { fake, store, lender, home } = world;
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  await world.broker.lend(wish(label, "x86_64"), null);
  const [runner] = await boot(world);
  assert.ok(runner);
  const [registered] = fake.state.runners.values();
  assert.equal(registered?.isOnline, false);
  // All that the sweep is shown is compared with the living, of whatever forge.
  const shown = await home.registrations(never);
  assert.deepEqual(
    shown.map(({ name }) => name),
    [runner.name],
  );
  assert.deepEqual(await lender.registrations(never), []);
  assert.notEqual((await runnerOfLoan(store.db, (await openLoans(store.db))[0]!))?.state, "gone");
});

test("runs beyond a list's first page are found", async (t) => {
  const world = await open(t);
  const first = beginRun(world);
  for (let n = 0; n < 150; n++) beginRun(world);
  await world.broker.lend(wish(`mayfly_${first.id}_1`, "x86_64"), null);
  assert.equal((await openLoans(world.store.db)).length, 1);
});

test("only so many wait at once, and of one address fewer; all are told when we stop", async (t) => {
  const world = await open(t);
  const run = beginRun(world);
  const asked = wish(`mayfly_${run.id}_1`, "x86_64");
  await world.broker.lend(asked, null);
  const stop = new AbortController();
  const waits = Array.from({ length: 30 }, (_, n) =>
    world.broker.ready(asked, addresses(n % 3), stop.signal),
  );
  const settled = Promise.allSettled(waits);
  stop.abort();
  const codes = (await settled).map(
    (one) => one.status === "rejected" && (one.reason as MayflyError).code,
  );
  assert.equal(codes.filter((code) => code === "too_many").length, 6);
  assert.equal(codes.filter((code) => code === "unavailable").length, 24);
});

function byText(a: unknown, b: unknown): number {
  return String(a) < String(b) ? -1 : 1;
}
