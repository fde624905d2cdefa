import { sql, type Selectable } from "kysely";
import type { Job, JobState } from "../domain/job.ts";
import type { Runner, RunnerState } from "../domain/runner.ts";
import type { Size } from "../domain/size.ts";
import { prepared } from "./prepared.ts";
import { toJob, toRunner } from "./rows.ts";
import type { TalliesTable, TotalsTable } from "./schema.ts";
import type { Database } from "./store.ts";

/** No answer is longer than this many rows, whatever was asked. */
const rowsMax = 1000;

export type StoredJob = Job & { readonly size: Size | null };

export interface JobFilter {
  readonly state?: JobState;
  readonly pool?: string;
  readonly forge?: string;
  /** Queued before this moment (ms): the next page. */
  readonly before?: number;
  /** With `before`, the last id of the page before: a forge queues many jobs in one moment. */
  readonly beforeId?: string;
  readonly limit?: number;
}

/** Jobs, newest first. */
export async function listJobs(db: Database, filter: JobFilter = {}): Promise<StoredJob[]> {
  let query = db.selectFrom("jobs").selectAll();
  if (filter.state !== undefined) query = query.where("state", "=", filter.state);
  if (filter.pool !== undefined) query = query.where("pool", "=", filter.pool);
  if (filter.forge !== undefined) query = query.where("forge", "=", filter.forge);
  const { before, beforeId } = filter;
  if (before !== undefined) {
    query = query.where((is) =>
      beforeId === undefined
        ? is("queued_at", "<", before)
        : is("queued_at", "<=", before).and(
            is.or([is("queued_at", "<", before), is("id", "<", beforeId)]),
          ),
    );
  }
  const rows = await query
    .orderBy("queued_at", "desc")
    .orderBy("id", "desc")
    .limit(bounded(filter.limit))
    .execute();
  return rows.map(toJob);
}

/** A job by its id. */
export async function findJob(db: Database, id: string): Promise<StoredJob | null> {
  const row = await db.selectFrom("jobs").selectAll().where("id", "=", id).executeTakeFirst();
  return row === undefined ? null : toJob(row);
}

/** Jobs of a forge that are not over and were seen before a moment, at most `limit`, oldest first. */
export async function openJobs(
  db: Database,
  forge: string,
  seenBefore: number,
  limit: number,
): Promise<{ id: string; externalId: string; attempt: number; repository: string }[]> {
  const rows = await db
    .selectFrom("jobs")
    .select(["id", "external_id", "attempt", "repository"])
    .where("state", "in", ["waiting", "started"])
    .where("forge", "=", forge)
    .where("seen_at", "<=", seenBefore)
    .orderBy("queued_at")
    .limit(limit)
    .execute();
  return rows.map(({ external_id: externalId, ...row }) => ({ ...row, externalId }));
}

export interface RunnerFilter {
  readonly states?: readonly RunnerState[];
  readonly pool?: string;
  readonly provider?: string;
  /** Claimed before this moment (ms): the next page. */
  readonly before?: number;
  /** With `before`, the last name of the page before: many are claimed in one moment. */
  readonly beforeName?: string;
  readonly limit?: number;
}

/** Runners, newest claim first. */
export async function listRunners(db: Database, filter: RunnerFilter = {}): Promise<Runner[]> {
  let query = db.selectFrom("runners").selectAll();
  if (filter.states !== undefined) query = query.where("state", "in", filter.states);
  if (filter.pool !== undefined) query = query.where("pool", "=", filter.pool);
  if (filter.provider !== undefined) query = query.where("provider", "=", filter.provider);
  const { before, beforeName } = filter;
  if (before !== undefined) {
    query = query.where((is) =>
      beforeName === undefined
        ? is("claimed_at", "<", before)
        : is("claimed_at", "<=", before).and(
            is.or([is("claimed_at", "<", before), is("name", "<", beforeName)]),
          ),
    );
  }
  const rows = await query
    .orderBy("claimed_at", "desc")
    .orderBy("name", "desc")
    .limit(bounded(filter.limit))
    .execute();
  return rows.map(toRunner);
}

export async function findRunner(db: Database, name: string): Promise<Runner | null> {
  const row = await db
    .selectFrom("runners")
    .selectAll()
    .where("name", "=", name)
    .executeTakeFirst();
  return row === undefined ? null : toRunner(row);
}

export type Counts = Pick<TotalsTable, "waiting" | "booting" | "idle" | "busy" | "ending">;
export type ClassTally = Counts & { readonly labelClass: string; readonly since: number };

/** What waits and lives in one pool, or in each. A pool that never saw anything is all zero. */
export async function poolTotals(db: Database): Promise<Map<string, Counts>> {
  const rows = await db.selectFrom("totals").selectAll().execute();
  return new Map(rows.map(({ pool, ...counts }) => [pool, counts]));
}

export async function poolTotal(db: Database, pool: string): Promise<Counts> {
  const [row] = await totalOf(db, { pool });
  return { waiting: 0, booting: 0, idle: 0, busy: 0, ending: 0, ...row };
}

const totalOf = prepared((db, { pool }: { pool: string }) =>
  db
    .selectFrom("totals")
    .select(["waiting", "booting", "idle", "busy", "ending"])
    .where("pool", "=", pool),
);

/** Label classes of a pool that want machines, longest first. */
export function wantingClasses(db: Database, pool: string, limit: number): Promise<ClassTally[]> {
  return classes(wanting(db, { pool, limit: bounded(limit) }));
}

/**
 * Label classes of a pool with machines to spare, longest first; `always` are among them if they
 * have any, however many others there are.
 */
export async function surplusClasses(
  db: Database,
  pool: string,
  limit: number,
  always: readonly string[] = [],
): Promise<ClassTally[]> {
  const some = await classes(spare(db, { pool, limit: bounded(limit) }));
  if (some.length < bounded(limit)) return some;
  const lacking = always.filter((one) => some.every(({ labelClass }) => labelClass !== one));
  if (lacking.length === 0) return some;
  const own = tallies(db, pool, lacking.length, gapBelow).where("label_class", "in", lacking);
  return [...(await classes(own.execute())), ...some];
}

// Literal, not parameters: the partial indexes match only then.
const gapAbove = sql<boolean>`gap > 0`;
const gapBelow = sql<boolean>`gap < 0`;

type OfPool = { readonly pool: string; readonly limit: number };
const wanting = prepared((db, { pool, limit }: OfPool) => tallies(db, pool, limit, gapAbove));
const spare = prepared((db, { pool, limit }: OfPool) => tallies(db, pool, limit, gapBelow));

function tallies(db: Database, pool: string, limit: number, which: typeof gapAbove) {
  return db
    .selectFrom("tallies")
    .selectAll()
    .where("pool", "=", pool)
    .where(which)
    .orderBy("since")
    .limit(limit);
}

async function classes(found: Promise<Selectable<TalliesTable>[]>): Promise<ClassTally[]> {
  return (await found).map(
    ({ label_class: labelClass, waiting, booting, idle, busy, ending, since }) => ({
      labelClass,
      waiting,
      booting,
      idle,
      busy,
      ending,
      since,
    }),
  );
}

/** Runners of a pool that the reconciler shall look at now, longest due first. */
export async function dueRunners(
  db: Database,
  pool: string,
  now: number,
  limit: number,
): Promise<Runner[]> {
  const rows = await due(db, { pool, now, limit: bounded(limit) });
  return rows.map(toRunner);
}

const due = prepared((db, { pool, now, limit }: OfPool & { now: number }) =>
  db
    .selectFrom("runners")
    .selectAll()
    .where("pool", "=", pool)
    .where("due_at", "<=", now)
    .orderBy("due_at")
    .limit(limit),
);

/** Runners of one class in these states since before a moment, longest first. */
export async function retirableRunners(
  db: Database,
  which: {
    readonly pool: string;
    readonly labelClass: string;
    readonly states: readonly RunnerState[];
    readonly before: number;
    readonly limit: number;
  },
): Promise<Runner[]> {
  const since = sql<number>`coalesce(up_at, asked_at, claimed_at)`;
  const rows = await db
    .selectFrom("runners")
    .selectAll()
    .where("pool", "=", which.pool)
    .where("label_class", "=", which.labelClass)
    .where("state", "in", which.states)
    .where("started_at", "is", null)
    .where(since, "<=", which.before)
    .orderBy(since)
    .orderBy("name")
    .limit(bounded(which.limit))
    .execute();
  return rows.map(toRunner);
}

/** When the next runner of a pool is due that is not due yet, or null. */
export async function nextDue(db: Database, pool: string, now: number): Promise<number | null> {
  const [row] = await dueNext(db, { pool, now });
  return row?.due_at ?? null;
}

const dueNext = prepared((db, { pool, now }: { pool: string; now: number }) =>
  db
    .selectFrom("runners")
    .select("due_at")
    .where("pool", "=", pool)
    .where("due_at", ">", now)
    .orderBy("due_at")
    .limit(1),
);

/** Names of a provider's runners in these states that were asked for before a moment. */
export async function livingRunners(
  db: Database,
  provider: string,
  states: readonly RunnerState[],
  askedBefore: number,
): Promise<string[]> {
  const rows = await db
    .selectFrom("runners")
    .select("name")
    .where("provider", "=", provider)
    .where("state", "in", states)
    .where(sql<number>`coalesce(asked_at, claimed_at)`, "<=", askedBefore)
    .execute();
  return rows.map(({ name }) => name);
}

/** Pools that have runners not yet gone, with one of them as a sample. */
export async function livingPools(
  db: Database,
): Promise<{ pool: string; forge: string; provider: string; size: Size }[]> {
  const rows = await db
    .selectFrom("runners")
    .select((is) => [
      "pool",
      is.fn.max("forge").as("forge"),
      is.fn.max("provider").as("provider"),
      is.fn.max("size").as("size"),
    ])
    .where("state", "!=", "gone")
    .groupBy("pool")
    .execute();
  return rows.map((row) => ({ ...row, size: JSON.parse(row.size) as Size }));
}

/** Of these names, the ones that are our living runners. */
export async function livingAmong(db: Database, names: readonly string[]): Promise<Set<string>> {
  const living = new Set<string>();
  for (let from = 0; from < names.length; from += 500) {
    const rows = await db
      .selectFrom("runners")
      .select("name")
      .where("name", "in", names.slice(from, from + 500))
      .where("state", "!=", "gone")
      .execute();
    for (const { name } of rows) living.add(name);
  }
  return living;
}

function bounded(limit: number | undefined): number {
  return Math.max(1, Math.min(limit ?? 100, rowsMax));
}
