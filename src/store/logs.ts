import type { Job } from "../domain/job.ts";
import type { Database, Tx } from "./store.ts";

/** A piece of a job's output, as the guest saw it. */
export interface LogFrame {
  readonly seq: number;
  /** Milliseconds since the epoch, by the guest's clock. */
  readonly at: number;
  readonly stream: "stdout" | "stderr" | "mayfly";
  readonly bytes: Uint8Array;
}

/** In place of a job's id: the output of a forge's runner. No job's id has a slash. */
export function runnerLog(runner: string): string {
  return `runner/${runner}`;
}

/** Under what a job's output is kept: a forge has its jobs' own, we have that of their runner. */
export function logOf({ id, work, runner }: Pick<Job, "id" | "work" | "runner">): string {
  return work === null && runner !== null ? runnerLog(runner) : id;
}

const rowsAtOnce = 1000;

/** Appends frames; one already there stays as it is, so that a guest may repeat itself. */
export async function appendLog(tx: Tx, job: string, frames: readonly LogFrame[]): Promise<void> {
  for (let from = 0; from < frames.length; from += rowsAtOnce) {
    await tx.db
      .insertInto("log_frames")
      .values(frames.slice(from, from + rowsAtOnce).map((frame) => ({ job, ...frame })))
      .onConflict((conflict) => conflict.columns(["job", "seq"]).doNothing())
      .execute();
  }
  tx.wake(`job/${job}`);
}

/** Frames after `afterSeq`, in order. */
export async function readLog(
  db: Database,
  job: string,
  afterSeq: number,
  limit = 500,
): Promise<LogFrame[]> {
  const rows = await db
    .selectFrom("log_frames")
    .selectAll()
    .where("job", "=", job)
    .where("seq", ">", afterSeq)
    .orderBy("seq")
    .limit(limit)
    .execute();
  return rows.map((row) => ({
    seq: row.seq,
    at: row.at,
    stream: row.stream as LogFrame["stream"],
    bytes: row.bytes,
  }));
}

/** The last `limit` frames, in order: where a reader joins a long log. */
export async function logTail(db: Database, job: string, limit: number): Promise<LogFrame[]> {
  const row = await db
    .selectFrom("log_frames")
    .select((is) => is.fn.max("seq").as("last"))
    .where("job", "=", job)
    .executeTakeFirst();
  const last = row?.last ?? null;
  return last === null ? [] : readLog(db, job, Math.max(-1, last - limit), limit);
}

export interface Artifact {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
  readonly at: number;
}

/** Notes an artifact whose content the state folder already holds; the last of a path wins. */
export async function addArtifact(tx: Tx, job: string, artifact: Artifact): Promise<void> {
  await tx.db
    .insertInto("artifacts")
    .values({ job, ...artifact })
    .onConflict((conflict) => conflict.columns(["job", "path"]).doUpdateSet({ ...artifact }))
    .execute();
  tx.wake(`job/${job}`);
}

export async function listArtifacts(db: Database, job: string): Promise<Artifact[]> {
  return db
    .selectFrom("artifacts")
    .select(["path", "size", "sha256", "at"])
    .where("job", "=", job)
    .orderBy("path")
    .limit(1000)
    .execute();
}
