import type { Job } from "../domain/job.ts";
import { addFacts } from "./facts.ts";
import type { StoredJob } from "./questions.ts";
import { toJob } from "./rows.ts";
import { readRunner } from "./runners.ts";
import type { RerunsTable } from "./schema.ts";
import type { Database, Tx } from "./store.ts";

/*
 * Jobs whose machine was taken back under them, and what becomes of the wish to run them again. One
 * row a job, for ever: so none is run again twice.
 */

export type Rerun = Readonly<RerunsTable>;

/** Marks a machine that its provider took back, or will; once. */
export async function noteInterruption(tx: Tx, name: string, reason: string): Promise<void> {
  const { numUpdatedRows } = await tx.db
    .updateTable("runners")
    .set({ interrupted_at: tx.now })
    .where("name", "=", name)
    .where("interrupted_at", "is", null)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) return;
  await addFacts(tx, [{ subjectKind: "runner", subject: name, kind: "noted", reason }]);
  const runner = await readRunner(tx, name);
  if (runner !== null) tx.wake(`forge/${runner.forge}`);
}

/**
 * First attempts that were on machines marked since then, did not end well as far as is known, and
 * have no row yet.
 */
export async function interruptedJobs(
  db: Database,
  forge: string,
  since: number,
  limit: number,
): Promise<StoredJob[]> {
  const rows = await db
    .selectFrom("runners")
    .innerJoin("jobs", "jobs.runner", "runners.name")
    .leftJoin("reruns", "reruns.job", "jobs.id")
    .selectAll("jobs")
    .where("runners.interrupted_at", ">=", since)
    .where("jobs.forge", "=", forge)
    .where("jobs.attempt", "=", 1)
    .where("reruns.job", "is", null)
    .where((is) =>
      is.or([
        is("jobs.outcome", "is", null),
        is("jobs.outcome", "=", "lost"),
        // Of a native job we know ourselves how it ended; a forge's own words may stand for this.
        is.and([
          is("jobs.work", "is", null),
          is("jobs.outcome", "in", ["failure", "cancelled", "error"]),
        ]),
      ]),
    )
    .limit(limit)
    .execute();
  return rows.map(toJob);
}

export async function wantRerun(
  tx: Tx,
  job: Job,
  {
    state,
    reason,
    deadlineAt,
  }: {
    readonly state: "wanted" | "given_up";
    readonly reason: string;
    readonly deadlineAt: number;
  },
): Promise<void> {
  const { id, forge, pool, labelClass } = job;
  const { numInsertedOrUpdatedRows } = await tx.db
    .insertInto("reruns")
    .values({
      job: id,
      forge,
      pool,
      label_class: labelClass,
      state,
      reason,
      at: tx.now,
      asked_at: null,
      next_at: tx.now,
      deadline_at: deadlineAt,
      tries: 0,
      again: null,
    })
    .onConflict((conflict) => conflict.column("job").doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows === 0n) return;
  await addFacts(tx, [{ subjectKind: "job", subject: id, kind: "noted", reason }]);
}

/** Those in these states, the longest due first. */
export function rerunsIn(
  db: Database,
  forge: string,
  states: readonly Rerun["state"][],
  limit: number,
): Promise<Rerun[]> {
  return db
    .selectFrom("reruns")
    .selectAll()
    .where("forge", "=", forge)
    .where("state", "in", states)
    .orderBy("next_at")
    .orderBy("job")
    .limit(limit)
    .execute();
}

export async function findRerun(db: Database, job: string): Promise<Rerun | null> {
  const row = await db.selectFrom("reruns").selectAll().where("job", "=", job).executeTakeFirst();
  return row ?? null;
}

/** Classes of a pool of which some job was asked to run again and does not run yet. */
export async function rerunClasses(db: Database, pool: string): Promise<ReadonlySet<string>> {
  const rows = await db
    .selectFrom("reruns")
    .select("label_class")
    .distinct()
    .where("pool", "=", pool)
    .where("state", "in", ["asking", "asked"])
    .execute();
  return new Set(rows.map((row) => row.label_class));
}

/**
 * Moves a row on from the state it was read in; `reason` becomes a line of the job's history when it
 * says something new. False: somebody else moved it.
 */
export async function moveRerun(
  tx: Tx,
  before: Rerun,
  changes: Partial<Pick<Rerun, "state" | "next_at" | "deadline_at" | "tries" | "again">> & {
    readonly reason: string;
  },
): Promise<boolean> {
  const asked = changes.state === "asking" && before.asked_at === null ? { asked_at: tx.now } : {};
  const { numUpdatedRows } = await tx.db
    .updateTable("reruns")
    .set({ ...changes, ...asked })
    .where("job", "=", before.job)
    .where("state", "=", before.state)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) return false;
  if (changes.reason !== before.reason) {
    const { reason } = changes;
    await addFacts(tx, [{ subjectKind: "job", subject: before.job, kind: "noted", reason }]);
  }
  return true;
}

/** The next attempt of a job, by whichever id its forge gave it; of several the first. */
export async function nextAttempt(
  db: Database,
  job: Job,
  since: number,
): Promise<StoredJob | null> {
  const rows = await db
    .selectFrom("jobs")
    .selectAll()
    .where("queued_at", ">=", since)
    .where("forge", "=", job.forge)
    .where("repository", "=", job.repository)
    .where("name", "=", job.name)
    .where("attempt", ">", job.attempt)
    .orderBy("queued_at")
    .limit(50)
    .execute();
  const run = runOf(job.url);
  return rows.map(toJob).find(({ url }) => runOf(url) === run) ?? null;
}

/** What the addresses of one run's jobs have in common. */
function runOf(url: string | null): string {
  return url?.replace(/\/(attempts\/\d+\/)?jobs?\/[^/]*$/, "") ?? "";
}
