import type { Job, JobOutcome, JobSighting } from "../domain/job.ts";
import { jobId } from "../domain/job.ts";
import { advanceJob } from "../domain/lifecycle.ts";
import type { Caps } from "../domain/pool.ts";
import type { Size } from "../domain/size.ts";
import { addFacts, type NewFact } from "./facts.ts";
import { releaseHeld } from "./holds.ts";
import { inserter } from "./insert.ts";
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
  /** What its pool takes on at once; null or absent: it has no such limits. */
  readonly caps?: Caps | null;
}

/** Sightings merged at once: bounds what is held of them. */
const rowsAtOnce = 500;

const columns = [
  "id",
  "forge",
  "external_id",
  "attempt",
  "name",
  "repository",
  "labels",
  "label_class",
  "trust",
  "pool",
  "size",
  "state",
  "outcome",
  "reason",
  "runner",
  "url",
  "work",
  "queued_at",
  "seen_at",
  "started_at",
  "ended_at",
  "exit_code",
  "held_pool",
] as const;
const insertUnlessKnown = inserter<"jobs", keyof JobsTable, { id: string }>(
  "jobs",
  columns,
  "on conflict (id) do nothing returning id",
);

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
  const byId = new Map<string, PlacedSighting[]>();
  for (const item of placed) {
    const { forge, externalId, attempt } = item.sighting;
    const id = jobId(forge, externalId, attempt);
    const told = byId.get(id);
    if (told === undefined) byId.set(id, [item]);
    else told.push(item);
  }
  // Most news is of jobs not yet known: they go in unasked, and only the rest is looked up.
  const inserted = await insertJobs(tx, byId);
  const moved = await advanceJobs(tx, byId, new Set(inserted.map(({ id }) => id)));
  const changed = [...inserted, ...moved];
  for (const job of changed) {
    if (job.pool !== null) tx.wake(`pool/${job.pool}`);
    tx.wake(`job/${job.id}`);
    if (job.runner !== null) await moveItsRunner(tx, job, job.runner);
  }
  return changed.map((job) => job.id);
}

/** Another replica may insert the same job at the same time: only what we inserted counts. */
async function insertJobs(
  tx: Tx,
  byId: ReadonlyMap<string, readonly PlacedSighting[]>,
): Promise<readonly Job[]> {
  const fresh = new Map<string, Job>();
  const rows: JobsTable[] = [];
  const capped = new Map<string, Caps>();
  const held = new Set<string>();
  for (const [id, [first, ...later]] of byId) {
    if (first === undefined) continue;
    const seen = newJob(id, first, tx.now);
    const job = advanced(seen, later) ?? seen;
    const { pool, caps = null } = first;
    const isHeld = pool !== null && caps !== null && job.state === "waiting";
    // Held at first; if there is room, it is let in before anybody sees it.
    const known = isHeld ? { ...job, pool: null } : job;
    if (isHeld) capped.set(pool, caps);
    if (isHeld) held.add(id);
    fresh.set(id, known);
    rows.push(toRow(known, first.size, isHeld ? pool : null));
  }
  if (rows.length === 0) return [];
  const taken = await insertUnlessKnown(tx, rows);
  const jobs = taken.flatMap(({ id }) => fresh.get(id) ?? []);
  for (const job of jobs) {
    if (job.pool !== null) tx.deltas.add(job.pool, job.labelClass, jobTally(job.state), 1);
  }
  await addFacts(
    tx,
    jobs.map((job) =>
      fact(
        job,
        isRefused(job, held.has(job.id)) ? "refused" : "seen",
        `${seenAs(job)}; ${job.reason}`,
      ),
    ),
  );
  for (const [pool, caps] of capped) await releaseHeld(tx, pool, caps);
  return jobs;
}

/** What is told of jobs that were there before. */
async function advanceJobs(
  tx: Tx,
  byId: ReadonlyMap<string, readonly PlacedSighting[]>,
  inserted: ReadonlySet<string>,
): Promise<readonly Job[]> {
  const older = [...byId.keys()].filter((id) => !inserted.has(id));
  if (older.length === 0) return [];
  const moved: Job[] = [];
  for (const [id, before] of await knownJobs(tx, older)) {
    const after = advanced(before, byId.get(id) ?? []);
    if (after !== null && (await updateJob(tx, before, after))) moved.push(after);
  }
  await addFacts(
    tx,
    moved.map((job) => fact(job, job.state === "ended" ? "ended" : "started", seenAs(job))),
  );
  return moved;
}

/** The job after these sightings in their order; null when they tell nothing new. */
function advanced(job: Job, told: readonly PlacedSighting[]): Job | null {
  let after: Job | null = null;
  for (const { sighting } of told) {
    const step = advanceJob(after ?? job, sighting);
    if (step.changed) after = { ...(after ?? job), ...step.changes };
  }
  return after;
}

async function knownJobs(tx: Tx, ids: readonly string[]): Promise<Map<string, Job>> {
  let query = tx.db.selectFrom("jobs").selectAll().where("id", "in", ids);
  if (tx.engine === "postgres") query = query.orderBy("id").forUpdate();
  const rows = await query.execute();
  return new Map(rows.map((row) => [row.id, toJob(row)]));
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
async function moveItsRunner(tx: Tx, job: Job, runner: string): Promise<void> {
  if (job.state === "started") {
    await startRunner(tx, runner, job.id);
  } else if (job.state === "ended") {
    await endRunner(tx, runner, `its job ${job.id} ended: ${job.outcome ?? "unknown"}`);
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

function toRow(job: Job, size: Size | null, heldPool: string | null): JobsTable {
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
    held_pool: heldPool,
  };
}

/** `isHeld`: it waits for room in its pool. */
function isRefused(job: Job, isHeld: boolean): boolean {
  return job.outcome === "refused" || (job.pool === null && !isHeld);
}

function seenAs(job: Job): string {
  const by = job.runner === null ? "" : ` on ${job.runner}`;
  const how = job.outcome === null ? "" : ` as ${job.outcome}`;
  return `${job.forge} shows it ${job.state}${how}${by}`;
}

function fact(job: Job, kind: NewFact["kind"], reason: string): NewFact {
  return { subjectKind: "job", subject: job.id, kind, reason };
}
