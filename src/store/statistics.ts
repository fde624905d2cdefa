import type { Fact, FactKind } from "../domain/fact.ts";
import type { Price } from "../domain/money.ts";
import type { Runner } from "../domain/runner.ts";
import type { ClassTally, StoredJob } from "./questions.ts";
import { toJob, toRunner } from "./rows.ts";
import type { Database } from "./store.ts";

/*
 * Questions of the dashboard and the metrics. Each answers from an index and with few rows, for
 * SQLite answers on the thread that also takes events.
 */

/** Jobs that a pool will serve and that wait, longest first. */
export async function oldestWaiting(db: Database, limit: number): Promise<StoredJob[]> {
  const rows = await db
    .selectFrom("jobs")
    .selectAll()
    .where("state", "=", "waiting")
    .where("pool", "is not", null)
    .orderBy("queued_at")
    .limit(limit)
    .execute();
  return rows.map(toJob);
}

/** Jobs that ended, the last to end first. */
export async function latestEnded(db: Database, limit: number): Promise<StoredJob[]> {
  const rows = await db
    .selectFrom("jobs")
    .selectAll()
    .where("ended_at", "is not", null)
    .orderBy("ended_at", "desc")
    .limit(limit)
    .execute();
  return rows.map(toJob);
}

/** How many jobs run, whoever's machine they run on. */
export async function startedCount(db: Database): Promise<number> {
  const { count } = await db
    .selectFrom("jobs")
    .select((is) => is.fn.countAll<number>().as("count"))
    .where("state", "=", "started")
    .executeTakeFirstOrThrow();
  return count;
}

/** Of these names, our runners. */
export async function runnersNamed(
  db: Database,
  names: readonly string[],
): Promise<Map<string, Runner>> {
  const found = new Map<string, Runner>();
  for (let from = 0; from < names.length; from += 500) {
    const rows = await db
      .selectFrom("runners")
      .selectAll()
      .where("name", "in", names.slice(from, from + 500))
      .execute();
    for (const row of rows) found.set(row.name, toRunner(row));
  }
  return found;
}

/** Of these ids, the jobs. */
export async function jobsNamed(
  db: Database,
  ids: readonly string[],
): Promise<Map<string, StoredJob>> {
  const found = new Map<string, StoredJob>();
  for (let from = 0; from < ids.length; from += 500) {
    const rows = await db
      .selectFrom("jobs")
      .selectAll()
      .where("id", "in", ids.slice(from, from + 500))
      .execute();
    for (const row of rows) found.set(row.id, toJob(row));
  }
  return found;
}

/** What waits and lives of one class in a pool; null when nothing does. */
export async function classTally(
  db: Database,
  pool: string,
  labelClass: string,
): Promise<ClassTally | null> {
  const row = await db
    .selectFrom("tallies")
    .select(["waiting", "booting", "idle", "busy", "ending", "since"])
    .where("pool", "=", pool)
    .where("label_class", "=", labelClass)
    .executeTakeFirst();
  return row === undefined ? null : { labelClass, ...row };
}

export interface HeldLease {
  readonly resource: string;
  readonly holder: string;
  readonly expiresAt: number;
}

export async function listLeases(db: Database): Promise<HeldLease[]> {
  const rows = await db
    .selectFrom("leases")
    .select(["resource", "holder", "expires_at"])
    .where("expires_at", ">", 0)
    .orderBy("resource")
    .limit(1000)
    .execute();
  return rows.map(({ resource, holder, expires_at: expiresAt }) => ({
    resource,
    holder,
    expiresAt,
  }));
}

/** The id of the newest fact; 0 before the first. */
export async function newestFactId(db: Database): Promise<number> {
  const row = await db
    .selectFrom("facts")
    .select("id")
    .orderBy("id", "desc")
    .limit(1)
    .executeTakeFirst();
  return row?.id ?? 0;
}

/** Facts after `afterId`, oldest first, of these kinds (all, when none are named) and subject. */
export async function factsSince(
  db: Database,
  afterId: number,
  which: { readonly kinds?: readonly FactKind[]; readonly subject?: string },
  limit: number,
): Promise<Fact[]> {
  let query = db.selectFrom("facts").selectAll().where("id", ">", afterId);
  if (which.kinds !== undefined) query = query.where("kind", "in", which.kinds);
  if (which.subject !== undefined) query = query.where("subject", "=", which.subject);
  const rows = await query.orderBy("id").limit(limit).execute();
  return rows.map((row) => ({
    id: row.id,
    at: row.at,
    subjectKind: row.subject_kind,
    subject: row.subject,
    kind: row.kind,
    reason: row.reason,
  }));
}

export interface JobTimes {
  readonly id: string;
  readonly queuedAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
}

/**
 * When the jobs of our pools that were queued in [from, to) started and ended, in order; after the
 * last of the page before.
 */
export async function jobTimes(
  db: Database,
  from: number,
  to: number,
  after: JobTimes | null,
  limit: number,
): Promise<JobTimes[]> {
  let query = db
    .selectFrom("jobs")
    .select(["id", "queued_at", "started_at", "ended_at"])
    .where("queued_at", ">=", after?.queuedAt ?? from)
    .where("queued_at", "<", to)
    .where("pool", "is not", null);
  if (after !== null) {
    query = query.where((is) =>
      is.or([is("queued_at", ">", after.queuedAt), is("id", ">", after.id)]),
    );
  }
  const rows = await query.orderBy("queued_at").orderBy("id").limit(limit).execute();
  return rows.map((row) => ({
    id: row.id,
    queuedAt: row.queued_at,
    startedAt: row.started_at,
    endedAt: row.ended_at,
  }));
}

export interface MachineLife {
  readonly name: string;
  readonly price: Price;
  readonly claimedAt: number;
  /** Null: it was never asked for, so nothing was made. */
  readonly bornAt: number | null;
  readonly goneAt: number | null;
  /** Final once gone. */
  readonly costMicroUsd: number;
}

/** The lives of machines claimed in [from, to), in order; after the last of the page before. */
export async function machineLives(
  db: Database,
  from: number,
  to: number,
  after: MachineLife | null,
  limit: number,
): Promise<MachineLife[]> {
  let query = db
    .selectFrom("runners")
    .select(["name", "price", "claimed_at", "born_at", "gone_at", "cost_micro_usd"])
    .where("claimed_at", ">=", after?.claimedAt ?? from)
    .where("claimed_at", "<", to);
  if (after !== null) {
    query = query.where((is) =>
      is.or([is("claimed_at", ">", after.claimedAt), is("name", ">", after.name)]),
    );
  }
  const rows = await query.orderBy("claimed_at").orderBy("name").limit(limit).execute();
  return rows.map((row) => ({
    name: row.name,
    price: JSON.parse(row.price) as Price,
    claimedAt: row.claimed_at,
    bornAt: row.born_at,
    goneAt: row.gone_at,
    costMicroUsd: row.cost_micro_usd,
  }));
}
