import { jobId, type JobSighting } from "../domain/job.ts";
import type { Forge } from "../forges/forge.ts";
import { checkLease, type Lease } from "../store/leases.ts";
import { findJob, openJobs } from "../store/questions.ts";
import { seeAgain } from "../store/sightings.ts";
import type { Store } from "../store/store.ts";
import type { ForgeHealth, Intake } from "./api.ts";
import { within, type Clock } from "./clock.ts";

export interface PollParts {
  readonly store: Store;
  readonly intake: Intake;
  readonly clock: Clock;
  /** How long a forge's list may lag behind, ms. */
  readonly lagMs: number;
}

const pollLimitMs = 60_000;
const findLimitMs = 30_000;
/** Sightings taken over in one unit of writing. */
const sightingsAtOnce = 500;
/** Open jobs compared with a poll; the rest have their turn when these are over. */
const openMax = 10_000;
/** Jobs asked about one by one after a poll: each costs a call of the forge's quota. */
const findsAtOnce = 20;
/** Shorter than any time between two polls. */
const turnMs = 1_000;

/**
 * Asks a forge what waits and runs, and stores what is new; then asks about those of our open jobs
 * that two polls in a row did not show, since the event of their end may be lost. A failure is told,
 * never thrown.
 */
export async function pollForge(
  parts: PollParts,
  forge: Forge,
  lease: Lease,
  signal: AbortSignal,
): Promise<ForgeHealth> {
  const { intake, clock } = parts;
  try {
    const sightings = await within(clock, pollLimitMs, signal, (until) => forge.poll(until));
    for (let from = 0; from < sightings.length; from += sightingsAtOnce) {
      await intake.record(sightings.slice(from, from + sightingsAtOnce));
    }
    await findMissing(parts, forge, new Set(sightings.map(idOf)), lease, signal);
    return { name: forge.name, polledAt: clock.now(), failure: null };
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    return { name: forge.name, polledAt: null, failure };
  }
}

async function findMissing(
  { store, intake, clock, lagMs }: PollParts,
  forge: Forge,
  shown: ReadonlySet<string>,
  lease: Lease,
  signal: AbortSignal,
): Promise<void> {
  if (forge.find === undefined) return;
  const open = await openJobs(store.db, forge.name, clock.now() - lagMs, openMax);
  const missing = new Map(open.filter(({ id }) => !shown.has(id)).map((job) => [job.id, job]));
  const again = await store.write(async (tx) => {
    await checkLease(tx, lease);
    return seeAgain(tx, "missing-job", forge.name, [...missing.keys()], lagMs);
  });
  for (const id of turn(again, clock.now())) {
    const job = missing.get(id);
    if (job === undefined) continue;
    const found = await within(clock, findLimitMs, signal, async (until) =>
      forge.find?.(job, until),
    );
    const sighting = found ?? (await unknown(store, id, clock.now()));
    if (sighting !== null) await intake.record([sighting]);
  }
}

/** The next of them: some that stay missing must not keep others from being asked about. */
function turn(ids: readonly string[], now: number): readonly string[] {
  const from = (Math.floor(now / turnMs) * findsAtOnce) % Math.max(1, ids.length);
  return [...ids.slice(from), ...ids.slice(0, from)].slice(0, findsAtOnce);
}

/** A job that its forge does not know any more is over, and nobody can say how it went. */
async function unknown(store: Store, id: string, now: number): Promise<JobSighting | null> {
  const job = await findJob(store.db, id);
  return job === null ? null : { ...job, state: "ended", outcome: "lost", endedAt: now };
}

function idOf({ forge, externalId, attempt }: JobSighting): string {
  return jobId(forge, externalId, attempt);
}
