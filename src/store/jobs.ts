import type { Job, JobOutcome, JobSighting } from "../domain/job.ts";
import { jobId } from "../domain/job.ts";
import { advanceJob } from "../domain/lifecycle.ts";
import type { Size } from "../domain/size.ts";
import { addFacts, type NewFact } from "./facts.ts";
import { toJob } from "./rows.ts";
import { endRunner, startRunner } from "./runners.ts";
import type { JobsTable } from "./schema.ts";
import type { Tx } from "./store.ts";
import { jobTally } from "./tallies.ts";

/** A sighting with the decision where it runs, made before it is stored. */
export interface PlacedSighting {
  readonly sighting: JobSighting;
  readonly labelClass: string;
  readonly pool: string | null;
  readonly size: Size | null;
  /** Why that pool, or why none. */
  readonly reason: string;
  /** No pool will ever take it, so it ends here. */
  readonly refused: boolean;
}

/** Rows in one statement: both engines bound the number of parameters. */
const rowsAtOnce = 500;

/**
 * Merges what forges show into the jobs: forward only, doubled and late sightings change nothing.
 * Returns the ids of the jobs that are new or changed.
 */
export async function recordSightings(
  tx: Tx,
  placed: readonly PlacedSighting[],
): Promise<readonly string[]> {
  const changed: string[] = [];
  for (let from = 0; from < placed.length; from += rowsAtOnce) {
    changed.push(...(await recordSome(tx, placed.slice(from, from + rowsAtOnce))));
  }
  return changed;
}

async function recordSome(tx: Tx, placed: readonly PlacedSighting[]): Promise<string[]> {
  const ids = placed.map(({ sighting: s }) => jobId(s.forge, s.externalId, s.attempt));
  const known = await knownJobs(tx, ids);
  const fresh = new Map<string, { job: Job; size: Size | null }>();
  const moved = new Map<string, Job>();

  for (const [index, item] of placed.entries()) {
    const id = ids[index] as string;
    const before = moved.get(id) ?? fresh.get(id)?.job ?? known.get(id);
    const step = advanceJob(before, item.sighting);
    if (!step.changed) continue;
    const job: Job =
      before === undefined ? newJob(id, item, tx.now) : { ...before, ...step.changes };
    if (known.has(id)) moved.set(id, job);
    else fresh.set(id, { job, size: item.size });
  }

  const inserted = await insertJobs(tx, fresh);
  const facts: NewFact[] = [];
  for (const job of inserted) {
    if (job.pool !== null) tx.deltas.add(job.pool, job.labelClass, jobTally(job.state), 1);
    const refused = job.outcome === "refused" || job.pool === null;
    facts.push(fact(job, refused ? "refused" : "seen", `${seenAs(job)}; ${job.reason}`));
  }
  for (const [id, job] of moved) {
    const before = known.get(id);
    if (before === undefined || !(await updateJob(tx, before, job))) continue;
    facts.push(fact(job, job.state === "ended" ? "ended" : "started", seenAs(job)));
  }
  await addFacts(tx, facts);

  const changed = [...inserted, ...moved.values()];
  for (const job of changed) {
    if (job.pool !== null) tx.wake(`pool/${job.pool}`);
    tx.wake(`job/${job.id}`);
    await moveItsRunner(tx, job);
  }
  return changed.map((job) => job.id);
}

async function knownJobs(tx: Tx, ids: readonly string[]): Promise<Map<string, Job>> {
  let query = tx.db.selectFrom("jobs").selectAll().where("id", "in", ids);
  if (tx.engine === "postgres") query = query.orderBy("id").forUpdate();
  const rows = await query.execute();
  return new Map(rows.map((row) => [row.id, toJob(row)]));
}

/** Another replica may insert the same job at the same time: only what we inserted counts. */
async function insertJobs(
  tx: Tx,
  fresh: ReadonlyMap<string, { job: Job; size: Size | null }>,
): Promise<Job[]> {
  if (fresh.size === 0) return [];
  const rows = await tx.db
    .insertInto("jobs")
    .values([...fresh.values()].map(({ job, size }) => toRow(job, size)))
    .onConflict((conflict) => conflict.column("id").doNothing())
    .returning("id")
    .execute();
  return rows.flatMap(({ id }) => fresh.get(id)?.job ?? []);
}

/**
 * Moves a job from the state it was read in. False when somebody else moved it first. Also used by
 * the guests' desk, which alone knows a native job's exit.
 */
export async function updateJob(tx: Tx, before: Job, after: Job): Promise<boolean> {
  const { numUpdatedRows } = await tx.db
    .updateTable("jobs")
    .set({
      state: after.state,
      outcome: after.outcome,
      reason: after.reason,
      runner: after.runner,
      url: after.url,
      started_at: after.startedAt,
      ended_at: after.endedAt,
      exit_code: after.exitCode,
    })
    .where("id", "=", before.id)
    .where("state", "=", before.state)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) return false;
  if (after.pool !== null && before.state !== after.state) {
    tx.deltas.move(after.pool, after.labelClass, jobTally(before.state), jobTally(after.state));
    tx.wake(`pool/${after.pool}`);
  }
  tx.wake(`job/${after.id}`);
  return true;
}

/**
 * Ends the native job that a runner has, when only we can tell that it is over: its machine is gone
 * or ran out of time. A forge decides about its own jobs, and a job that has ended stays as it is.
 */
export async function endJobOf(
  tx: Tx,
  runner: string,
  outcome: JobOutcome,
  reason: string,
): Promise<void> {
  const row = await tx.db
    .selectFrom("jobs")
    .selectAll()
    .where("runner", "=", runner)
    .where("state", "=", "started")
    .where("work", "is not", null)
    .executeTakeFirst();
  if (row === undefined) return;
  const before = toJob(row);
  const after: Job = { ...before, state: "ended", outcome, reason, endedAt: tx.now };
  if (await updateJob(tx, before, after)) {
    await addFacts(tx, [fact(after, "ended", `${outcome}: ${reason}`)]);
  }
}

/** The runner named in an event is the one that has the job, whichever we made for it. */
async function moveItsRunner(tx: Tx, job: Job): Promise<void> {
  if (job.runner === null) return;
  if (job.state === "started") {
    await startRunner(tx, job.runner, job.id);
  } else if (job.state === "ended") {
    await endRunner(tx, job.runner, `its job ${job.id} ended: ${job.outcome ?? "unknown"}`);
  }
}

function newJob(id: string, placed: PlacedSighting, now: number): Job {
  const job: Job = {
    ...placed.sighting,
    id,
    labelClass: placed.labelClass,
    pool: placed.pool,
    reason: placed.reason,
    seenAt: now,
    exitCode: null,
  };
  if (!placed.refused || job.state === "ended") return job;
  return { ...job, state: "ended", outcome: "refused", endedAt: now };
}

function toRow(job: Job, size: Size | null): JobsTable {
  return {
    id: job.id,
    forge: job.forge,
    external_id: job.externalId,
    attempt: job.attempt,
    name: job.name,
    repository: job.repository,
    labels: JSON.stringify(job.labels),
    label_class: job.labelClass,
    trust: job.trust,
    pool: job.pool,
    size: size === null ? null : JSON.stringify(size),
    state: job.state,
    outcome: job.outcome,
    reason: job.reason,
    runner: job.runner,
    url: job.url,
    work: job.work === null ? null : JSON.stringify(job.work),
    queued_at: job.queuedAt,
    seen_at: job.seenAt,
    started_at: job.startedAt,
    ended_at: job.endedAt,
    exit_code: job.exitCode,
  };
}

function seenAs(job: Job): string {
  const by = job.runner === null ? "" : ` on ${job.runner}`;
  const how = job.outcome === null ? "" : ` as ${job.outcome}`;
  return `${job.forge} shows it ${job.state}${how}${by}`;
}

function fact(job: Job, kind: NewFact["kind"], reason: string): NewFact {
  return { subjectKind: "job", subject: job.id, kind, reason };
}
