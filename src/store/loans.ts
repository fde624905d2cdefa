import { sql } from "kysely";
import type { JobOutcome } from "../domain/job.ts";
import type { Loan, LoanCounts } from "../domain/loan.ts";
import { runnerStates, type Runner } from "../domain/runner.ts";
import { addFacts } from "./facts.ts";
import { updateJob } from "./jobs.ts";
import { prepared } from "./prepared.ts";
import { toJob, toRunner } from "./rows.ts";
import { startRunner } from "./runners.ts";
import { findJob } from "./questions.ts";
import type { LoanRow, LoansTable } from "./schema.ts";
import type { Database, Tx } from "./store.ts";

/*
 * Machines lent by the broker. A loan and the job that stands for it are written in one unit.
 */

const hourMs = 3600_000;
const dayMs = 24 * hourMs;
/** More than any broker lends at once. */
const openMax = 1000;
const settledAtOnce = 100;
/** What PostgreSQL calls the lock under which loans are counted and made. */
const lockKey = 4_240_901;

/** Of one label, in the order of their architectures. */
export async function loansOf(db: Database, label: string): Promise<Loan[]> {
  return (await labelled(db, { label })).map(toLoan);
}

const labelled = prepared((db, { label }: { label: string }) =>
  db.selectFrom("loans").selectAll().where("label", "=", label).orderBy("id").limit(100),
);

export async function findLoan(db: Database, id: string): Promise<Loan | null> {
  const row = await db.selectFrom("loans").selectAll().where("id", "=", id).executeTakeFirst();
  return row === undefined ? null : toLoan(row);
}

/** The one that a runner was made for: nothing else has its labels. */
export async function loanOfClass(
  db: Database,
  pool: string,
  labelClass: string,
): Promise<Loan | null> {
  const row = await db
    .selectFrom("loans")
    .selectAll()
    .where("pool", "=", pool)
    .where("label_class", "=", labelClass)
    .executeTakeFirst();
  return row === undefined ? null : toLoan(row);
}

/** Those that are not over, oldest first. */
export async function openLoans(db: Database): Promise<Loan[]> {
  const query = db.selectFrom("loans").selectAll().where("over_at", "is", null);
  return (await query.orderBy("lent_at").limit(openMax).execute()).map(toLoan);
}

/** Those lent to any attempt of a run. */
export async function loansOfRun(db: Database, repository: string, run: string): Promise<Loan[]> {
  const rows = await db
    .selectFrom("loans")
    .selectAll()
    .where("repository", "=", repository)
    .where("run", "=", run)
    .limit(openMax)
    .execute();
  return rows.map(toLoan);
}

/** The newest machine made for a loan. */
export async function runnerOfLoan(
  db: Database,
  { pool, labelClass }: Pick<Loan, "pool" | "labelClass">,
): Promise<Runner | null> {
  const row = await db
    .selectFrom("runners")
    .selectAll()
    .where("pool", "=", pool)
    // All of them: named for the index's sake.
    .where("state", "in", runnerStates)
    .where("label_class", "=", labelClass)
    .orderBy("claimed_at", "desc")
    .limit(1)
    .executeTakeFirst();
  return row === undefined ? null : toRunner(row);
}

/**
 * Holds off every other replica's loans until this unit is over, so that what is counted in it still
 * holds when it is written. SQLite has one writer anyway.
 */
export async function lockLoans(tx: Tx): Promise<void> {
  if (tx.engine === "postgres") await sql`select pg_advisory_xact_lock(${lockKey})`.execute(tx.db);
}

/** What has been lent so far, as the caps and the budget want to know it. */
export async function countLoans(
  db: Database,
  now: number,
  of: Pick<Loan, "repository" | "run" | "attempt" | "address"> & {
    readonly architectures: readonly string[];
  },
): Promise<LoanCounts> {
  const count = sql<number>`count(*)`;
  const ofRun = await db
    .selectFrom("loans")
    .select(count.as("count"))
    .where("repository", "=", of.repository)
    .where("run", "=", of.run)
    .where("attempt", "=", of.attempt)
    .where("architecture", "in", of.architectures)
    .groupBy("architecture")
    .execute();
  const open = await db
    .selectFrom("loans")
    .select(count.as("count"))
    .where("repository", "=", of.repository)
    .where("over_at", "is", null)
    .executeTakeFirstOrThrow();
  const hour = await db
    .selectFrom("loans")
    .select([
      count.as("count"),
      sql<number>`cast(coalesce(sum(case when address = ${of.address} then 1 else 0 end), 0) as bigint)`.as(
        "own",
      ),
    ])
    .where("lent_at", ">", now - hourMs)
    .executeTakeFirstOrThrow();
  return {
    ofRun: Math.max(0, ...ofRun.map((row) => row.count)),
    openOfRepository: open.count,
    lastHourOfAddress: hour.own,
    lastHour: hour.count,
    todayMicroUsd: await spentToday(db, now),
  };
}

/** Of what was lent since midnight (UTC): what it cost, or what is kept for it, micro-dollars. */
export async function spentToday(db: Database, now: number): Promise<number> {
  const since = now - (now % dayMs);
  const row = await db
    .selectFrom("loans")
    .select(
      sql<number>`cast(coalesce(sum(coalesce(spent_micro_usd, reserved_micro_usd)), 0) as bigint)`.as(
        "spent",
      ),
    )
    .where("lent_at", ">=", since)
    .executeTakeFirstOrThrow();
  return row.spent;
}

export async function countOpenLoans(db: Database): Promise<number> {
  const row = await db
    .selectFrom("loans")
    .select(sql<number>`count(*)`.as("count"))
    .where("over_at", "is", null)
    .executeTakeFirstOrThrow();
  return row.count;
}

export async function insertLoans(tx: Tx, loans: readonly Loan[]): Promise<void> {
  await tx.db.insertInto("loans").values(loans.map(toRow)).execute();
}

/** Its runner is registered, or its machine is up and will be as soon as its job waits. */
export async function noteReady(tx: Tx, loan: Loan, reason: string): Promise<void> {
  const { numUpdatedRows } = await tx.db
    .updateTable("loans")
    .set({ ready_at: tx.now })
    .where("id", "=", loan.id)
    .where("ready_at", "is", null)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) return;
  await addFacts(tx, [{ subjectKind: "job", subject: loan.job, kind: "noted", reason }]);
  tx.wake(`job/${loan.job}`);
}

/** A job of this run shows its label, so this is the run that it was lent to. */
export async function confirmLoan(
  tx: Tx,
  loan: Loan,
  { run, attempt, url }: Pick<Loan, "run" | "attempt" | "url">,
): Promise<void> {
  const changes = { run, attempt, url, is_confirmed: 1 };
  await tx.db.updateTable("loans").set(changes).where("id", "=", loan.id).execute();
  const reason = `a job of run ${run} asks for it`;
  await addFacts(tx, [{ subjectKind: "job", subject: loan.job, kind: "noted", reason }]);
}

/**
 * Ends a loan, and the job that stands for it: then its machine is spare, and the planner lets it
 * go as any other, its registration first. False: it was over.
 */
export async function endLoan(
  tx: Tx,
  loan: Pick<Loan, "id" | "job">,
  outcome: JobOutcome,
  reason: string,
): Promise<boolean> {
  const { numUpdatedRows } = await tx.db
    .updateTable("loans")
    .set({ over_at: tx.now, reason })
    .where("id", "=", loan.id)
    .where("over_at", "is", null)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) return false;
  tx.wake(`job/${loan.job}`);
  const row = await tx.db
    .selectFrom("jobs")
    .selectAll()
    .where("id", "=", loan.job)
    .executeTakeFirst();
  if (row === undefined || row.state === "ended") return true;
  const before = toJob(row);
  const after = { ...before, state: "ended" as const, outcome, reason, endedAt: tx.now };
  if (await updateJob(tx, before, after)) {
    const said = `${outcome}: ${reason}`;
    await addFacts(tx, [{ subjectKind: "job", subject: loan.job, kind: "ended", reason: said }]);
  }
  return true;
}

/**
 * The guest of a loan's machine says that a job began: it can be no other than the loan's, since nobody
 * else's job has its labels. Told at once, for its forge's news may come when the machine is gone, and
 * a job that still waited would then get another. False: it is known.
 */
export async function startLoanOf(tx: Tx, runner: Runner): Promise<boolean> {
  const loan = await loanOfClass(tx.db, runner.pool, runner.labelClass);
  const known = loan === null ? null : await findJob(tx.db, loan.job);
  if (known === null || known.state !== "waiting") return false;
  const after = { ...known, state: "started" as const, runner: runner.name, startedAt: tx.now };
  if (!(await updateJob(tx, known, after))) return false;
  await startRunner(tx, runner.name, known.id);
  const reason = `the guest of ${runner.name} says that it began`;
  await addFacts(tx, [{ subjectKind: "job", subject: known.id, kind: "started", reason }]);
  return true;
}

/** Loans whose job is over though nobody ended them: their forge told of it. */
export async function closeEnded(tx: Tx): Promise<void> {
  const rows = await tx.db
    .selectFrom("loans")
    .innerJoin("jobs", "jobs.id", "loans.job")
    .select(["loans.id", "jobs.outcome"])
    .where("loans.over_at", "is", null)
    .where("jobs.state", "=", "ended")
    .limit(openMax)
    .execute();
  for (const { id, outcome } of rows) {
    const reason = `its job ended: ${outcome ?? "unknown"}`;
    await tx.db
      .updateTable("loans")
      .set({ over_at: tx.now, reason })
      .where("id", "=", id)
      .where("over_at", "is", null)
      .execute();
  }
}

/** Puts what the machines cost in place of what was kept, where all of them are gone. */
export async function settleLoans(tx: Tx): Promise<void> {
  const rows = await tx.db
    .selectFrom("loans")
    .select(["id", "pool", "label_class"])
    .where("over_at", "is not", null)
    .where("spent_micro_usd", "is", null)
    .orderBy("over_at")
    .limit(settledAtOnce)
    .execute();
  for (const { id, pool, label_class: labelClass } of rows) {
    const runners = await tx.db
      .selectFrom("runners")
      .select(["state", "cost_micro_usd"])
      .where("pool", "=", pool)
      .where("state", "in", runnerStates)
      .where("label_class", "=", labelClass)
      .execute();
    if (runners.some(({ state }) => state !== "gone")) continue;
    const spent = runners.reduce((sum, runner) => sum + runner.cost_micro_usd, 0);
    await tx.db.updateTable("loans").set({ spent_micro_usd: spent }).where("id", "=", id).execute();
  }
}

function toLoan(row: LoanRow): Loan {
  return {
    id: row.id,
    job: row.job,
    label: row.label,
    architecture: row.architecture,
    labels: JSON.parse(row.labels) as string[],
    labelClass: row.label_class,
    pool: row.pool,
    forge: row.forge,
    repository: row.repository,
    run: row.run,
    attempt: row.attempt,
    isConfirmed: row.is_confirmed === 1,
    trust: row.trust,
    url: row.url,
    address: row.address,
    lentAt: row.lent_at,
    readyAt: row.ready_at,
    overAt: row.over_at,
    reason: row.reason,
    reservedMicroUsd: row.reserved_micro_usd,
    spentMicroUsd: row.spent_micro_usd,
  };
}

function toRow(loan: Loan): LoansTable {
  return {
    id: loan.id,
    job: loan.job,
    label: loan.label,
    architecture: loan.architecture,
    labels: JSON.stringify(loan.labels),
    label_class: loan.labelClass,
    pool: loan.pool,
    forge: loan.forge,
    repository: loan.repository,
    run: loan.run,
    attempt: loan.attempt,
    is_confirmed: loan.isConfirmed ? 1 : 0,
    trust: loan.trust,
    url: loan.url,
    address: loan.address,
    lent_at: loan.lentAt,
    ready_at: loan.readyAt,
    over_at: loan.overAt,
    reason: loan.reason,
    reserved_micro_usd: loan.reservedMicroUsd,
    spent_micro_usd: loan.spentMicroUsd,
  };
}
