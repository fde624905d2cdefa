import { brokerForge } from "../domain/broker.ts";
import type { Job, JobOutcome, NativeSource, NativeWork } from "../domain/job.ts";
import type { Runner } from "../domain/runner.ts";
import { endBackOff } from "./back-offs.ts";
import { addFacts } from "./facts.ts";
import { updateJob } from "./jobs.ts";
import { startLoanOf } from "./loans.ts";
import type { StoredJob } from "./questions.ts";
import { toJob, toRunner } from "./rows.ts";
import { moveRunner, readRunner, startRunner } from "./runners.ts";
import type { Database, Tx } from "./store.ts";

/*
 * What the desk of the guests asks and notes. A runner's `redeemed` is the digest of the nonce its
 * guest redeemed the claim with; every session derives from it.
 */

/** In place of a digest: this runner's claim and session are good for nothing any more. */
const removed = "removed";

export interface GuestRunner {
  readonly runner: Runner;
  readonly redeemed: string | null;
}

export async function findGuest(db: Database, name: string): Promise<GuestRunner | null> {
  const row = await db
    .selectFrom("runners")
    .selectAll()
    .where("name", "=", name)
    .executeTakeFirst();
  return row === undefined ? null : { runner: toRunner(row), redeemed: row.redeemed };
}

/**
 * Notes that a runner's guest redeemed its claim under this digest, and moves it `up`. Returns what
 * stands there now: another digest means that somebody else came first, or that its end has come.
 * Null: no such runner.
 */
export async function redeemClaim(tx: Tx, name: string, digest: string): Promise<string | null> {
  const runner = await readRunner(tx, name);
  if (runner === null) return null;
  // A machine made late, after its runner's end: nothing is for it, whatever became of the claim.
  if (runner.state === "ended" || runner.state === "gone") return removed;
  await tx.db
    .updateTable("runners")
    .set({ redeemed: digest })
    .where("name", "=", name)
    .where("redeemed", "is", null)
    .execute();
  const now = await findGuest(tx.db, name);
  if (now?.redeemed === digest) await moveRunner(tx, name, "up", { reason: "its guest reported" });
  return now?.redeemed ?? null;
}

/** Notes that a machine was given its forge's runner to run. False: it is not wanted any more. */
export async function noteHandOver(tx: Tx, name: string, reason: string): Promise<boolean> {
  const runner = await readRunner(tx, name);
  if (runner === null || runner.state === "ended" || runner.state === "gone") return false;
  if (runner.handedAt !== null) return true;
  await tx.db.updateTable("runners").set({ handed_at: tx.now }).where("name", "=", name).execute();
  await addFacts(tx, [{ subjectKind: "runner", subject: name, kind: "noted", reason }]);
  return true;
}

/**
 * Notes that a forge's runner has begun a job, also when its end was decided meanwhile. Its state
 * waits for the forge's news of the job: until then that counts as waiting, and the runner, counted as
 * idle, stands for it. Counted as busy it would have another machine made.
 */
export async function noteStart(tx: Tx, name: string): Promise<void> {
  const runner = await readRunner(tx, name);
  if (runner === null || runner.startedAt !== null || runner.state === "gone") return;
  await tx.db
    .updateTable("runners")
    .set({ started_at: tx.now, due_at: tx.now })
    .where("name", "=", name)
    .execute();
  const reason =
    runner.state === "ended"
      ? "it got a job as its end was decided; its machine stays until that is over"
      : "its guest says that a job began";
  await endBackOff(tx, `pool/${runner.pool}`);
  await addFacts(tx, [{ subjectKind: "runner", subject: name, kind: "noted", reason }]);
  if (runner.forge === brokerForge) await startLoanOf(tx, runner);
  tx.wake(`pool/${runner.pool}`);
}

/** Notes that a forge's runner is over, and ends it: its machine is not wanted any more. */
export async function noteFinish(tx: Tx, runner: Runner, reason: string): Promise<void> {
  await tx.db
    .updateTable("runners")
    .set({ finished_at: tx.now })
    .where("name", "=", runner.name)
    .where("finished_at", "is", null)
    .execute();
  if (await moveRunner(tx, runner.name, "ended", { reason })) return;
  await tx.db
    .updateTable("runners")
    .set({ due_at: tx.now })
    .where("name", "=", runner.name)
    .where("state", "=", "ended")
    .execute();
  tx.wake(`pool/${runner.pool}`);
}

/** What became of a guest's wish for work. */
export type HandOver =
  | { readonly kind: "job"; readonly job: StoredJob }
  | { readonly kind: "none" }
  /** This machine is not wanted any more. */
  | { readonly kind: "over"; readonly reason: string };

/**
 * Gives a runner that is up the oldest waiting job of its pool and class, and starts both. A runner
 * that has its job gets the same again, since the first answer may have been lost.
 */
export async function handOver(tx: Tx, name: string): Promise<HandOver> {
  const runner = await readRunner(tx, name);
  const guest = await findGuest(tx.db, name);
  if (runner === null || guest?.redeemed === removed) {
    return { kind: "over", reason: "the machine is not wanted any more" };
  }
  if (runner.state === "ended" || runner.state === "gone") {
    return { kind: "over", reason: runner.reason };
  }
  if (runner.job !== null) return handOverAgain(tx, runner.job);
  const job = await oldestWaiting(tx, runner);
  if (job === null) return { kind: "none" };
  const started: StoredJob = { ...job, state: "started", runner: name, startedAt: tx.now };
  if (!(await updateJob(tx, job, started))) return { kind: "none" };
  await startRunner(tx, name, job.id);
  await addFacts(tx, [
    { subjectKind: "job", subject: job.id, kind: "started", reason: `${name} took it` },
  ]);
  return { kind: "job", job: started };
}

async function handOverAgain(tx: Tx, id: string): Promise<HandOver> {
  const row = await tx.db.selectFrom("jobs").selectAll().where("id", "=", id).executeTakeFirst();
  const job = row === undefined ? null : toJob(row);
  if (job?.state === "started") return { kind: "job", job };
  return { kind: "over", reason: `its job ${id} is over` };
}

async function oldestWaiting(tx: Tx, runner: Runner): Promise<StoredJob | null> {
  let query = waitingFor(tx.db, runner).selectAll().orderBy("queued_at").orderBy("id").limit(1);
  if (tx.engine === "postgres") query = query.forUpdate().skipLocked();
  const row = await query.executeTakeFirst();
  return row === undefined ? null : toJob(row);
}

/** Whether a runner of this pool and class would get a job now. */
export async function hasWaiting(
  db: Database,
  which: Pick<Runner, "pool" | "labelClass">,
): Promise<boolean> {
  const row = await waitingFor(db, which).select("id").limit(1).executeTakeFirst();
  return row !== undefined;
}

function waitingFor(db: Database, { pool, labelClass }: Pick<Runner, "pool" | "labelClass">) {
  return db
    .selectFrom("jobs")
    .where("pool", "=", pool)
    .where("state", "=", "waiting")
    .where("label_class", "=", labelClass);
}

export interface JobEnd {
  readonly outcome: JobOutcome;
  readonly exitCode: number | null;
  /** How it ended, in words. */
  readonly reason: string;
}

/** Ends a job that has not ended; false when it has (or somebody else ends it right now). */
export async function endJob(tx: Tx, job: Job, end: JobEnd): Promise<boolean> {
  if (job.state === "ended") return false;
  const after: Job = { ...job, ...end, state: "ended", endedAt: tx.now };
  if (!(await updateJob(tx, job, after))) return false;
  await addFacts(tx, [
    {
      subjectKind: "job",
      subject: job.id,
      kind: "ended",
      reason: `${end.outcome}: ${end.reason}`,
    },
  ]);
  return true;
}

/** Replaces a job's source by the tree that was fetched for it. */
export async function setSource(
  tx: Tx,
  job: { readonly id: string; readonly work: NativeWork },
  source: NativeSource,
): Promise<void> {
  const work = JSON.stringify({ ...job.work, source });
  await tx.db.updateTable("jobs").set({ work }).where("id", "=", job.id).execute();
}

/** Asks for the end of a started job; the first reason stays. */
export async function askCancellation(tx: Tx, job: string, reason: string): Promise<void> {
  await tx.db
    .insertInto("cancellations")
    .values({ job, at: tx.now, reason })
    .onConflict((conflict) => conflict.column("job").doNothing())
    .execute();
  tx.wake(cancelTopic(job));
}

/** What `askCancellation` wakes. */
export function cancelTopic(job: string): string {
  return `cancel/${job}`;
}

export async function findCancellation(db: Database, job: string): Promise<string | null> {
  const row = await db
    .selectFrom("cancellations")
    .select("reason")
    .where("job", "=", job)
    .executeTakeFirst();
  return row?.reason ?? null;
}

/** Jobs still running though their end was asked for before a moment. At most 100. */
export async function deafJobs(
  db: Database,
  askedBefore: number,
): Promise<{ job: StoredJob; reason: string }[]> {
  const rows = await db
    .selectFrom("cancellations")
    .innerJoin("jobs", "jobs.id", "cancellations.job")
    .selectAll("jobs")
    .select("cancellations.reason as cancellation")
    .where("cancellations.at", "<=", askedBefore)
    .where("jobs.state", "=", "started")
    .limit(100)
    .execute();
  return rows.map(({ cancellation, ...row }) => ({ job: toJob(row), reason: cancellation }));
}

/** Forgets what was asked of jobs that are over. */
export async function dropCancellations(tx: Tx): Promise<void> {
  await tx.db
    .deleteFrom("cancellations")
    .where("job", "not in", (is) =>
      is.selectFrom("jobs").select("id").where("state", "!=", "ended"),
    )
    .execute();
}

/** Bytes of output kept for a job. */
export async function logBytes(db: Database, job: string): Promise<number> {
  const row = await db
    .selectFrom("log_frames")
    .select((is) => is.fn.sum<number | string | null>(is.fn("length", ["bytes"])).as("total"))
    .where("job", "=", job)
    .executeTakeFirst();
  return Number(row?.total ?? 0);
}

/** How many artifacts a job has, and how large they are together, without the one of `path`. */
export async function artifactTotals(
  db: Database,
  job: string,
  path: string,
): Promise<{ count: number; bytes: number }> {
  const row = await db
    .selectFrom("artifacts")
    .select((is) => [
      is.fn.countAll().as("count"),
      is.fn.sum<number | string | null>("size").as("bytes"),
    ])
    .where("job", "=", job)
    .where("path", "!=", path)
    .executeTakeFirst();
  return { count: Number(row?.count ?? 0), bytes: Number(row?.bytes ?? 0) };
}

/** The content of an artifact, by the job and the path it was sent under. */
export async function artifactContent(
  db: Database,
  job: string,
  path: string,
): Promise<string | null> {
  const row = await db
    .selectFrom("artifacts")
    .select("sha256")
    .where("job", "=", job)
    .where("path", "=", path)
    .executeTakeFirst();
  return row?.sha256 ?? null;
}

/** Forgets artifacts noted before a moment; their content goes once nothing refers to it. */
export async function dropArtifacts(tx: Tx, before: number): Promise<void> {
  await tx.db.deleteFrom("artifacts").where("at", "<", before).execute();
}

/** Of these contents, the ones that an artifact has. At most 500 at once. */
export async function artifactsAmong(
  db: Database,
  contents: readonly string[],
): Promise<Set<string>> {
  if (contents.length === 0) return new Set();
  const rows = await db
    .selectFrom("artifacts")
    .select("sha256")
    .distinct()
    .where("sha256", "in", contents)
    .execute();
  return new Set(rows.map(({ sha256 }) => sha256));
}

const jobsAtOnce = 1000;

/** The trees that waiting and running native jobs need. */
export async function treesInUse(db: Database): Promise<Set<string>> {
  const trees = new Set<string>();
  let last = "";
  for (;;) {
    const rows = await db
      .selectFrom("jobs")
      .select(["id", "work"])
      .where("id", ">", last)
      .where("state", "in", ["waiting", "started"])
      .where("work", "is not", null)
      .orderBy("id")
      .limit(jobsAtOnce)
      .execute();
    for (const { id, work } of rows) {
      last = id;
      const { source } = JSON.parse(work ?? "{}") as NativeWork;
      if (source.kind === "tree") trees.add(source.sha256);
    }
    if (rows.length < jobsAtOnce) return trees;
  }
}

/** A forge's runners whose guests hold a session: what a native forge calls registered. */
export async function guestRunners(db: Database, forge: string): Promise<string[]> {
  const rows = await db
    .selectFrom("runners")
    .select("name")
    .where("forge", "=", forge)
    .where("state", "in", ["claimed", "asked", "up", "started", "ended"])
    .where("redeemed", "is not", null)
    .where("redeemed", "!=", removed)
    .execute();
  return rows.map(({ name }) => name);
}

/**
 * Makes a runner's claim and session worthless, so that it can take no job; or says `busy` when it
 * has one that is not over. Unknown runners are gone.
 */
export async function removeGuest(tx: Tx, name: string): Promise<"gone" | "busy"> {
  const runner = await readRunner(tx, name);
  if (runner === null) return "gone";
  if (runner.job !== null) {
    const row = await tx.db
      .selectFrom("jobs")
      .select("state")
      .where("id", "=", runner.job)
      .executeTakeFirst();
    if (row !== undefined && row.state !== "ended") return "busy";
  }
  await tx.db.updateTable("runners").set({ redeemed: removed }).where("name", "=", name).execute();
  tx.wake(`runner/${name}`);
  return "gone";
}
