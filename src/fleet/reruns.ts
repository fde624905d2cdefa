import { jobId, type JobSighting } from "../domain/job.ts";
import { onDemandLabel } from "../domain/labels.ts";
import { place } from "../domain/matching.ts";
import type { Pool } from "../domain/pool.ts";
import type { Forge, RerunAnswer } from "../forges/forge.ts";
import { findCancellation } from "../store/guest.ts";
import { checkLease, type Lease } from "../store/leases.ts";
import { findJob, type StoredJob } from "../store/questions.ts";
import {
  interruptedJobs,
  moveRerun,
  nextAttempt,
  rerunsIn,
  wantRerun,
  type Rerun,
} from "../store/reruns.ts";
import type { Store } from "../store/store.ts";
import type { Intake } from "./api.ts";
import { within, type Clock } from "./clock.ts";
import type { Log } from "./log.ts";

export interface RerunParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly intake: Intake;
  readonly pools: readonly Pool[];
  readonly log: Log;
}

/** A forge lets a job run again when all of its run is over, which may take hours. */
const wantedMs = 6 * 3600_000;
/** How long its new attempt may wait for a machine, and how long it may stay out of sight. */
const awaitedMs = 24 * 3600_000;
const unseenMs = 3600_000;
const againMs = 60_000;
const callMs = 60_000;
const atOnce = 100;
const awaitedAtOnce = 500;
const callsAtOnce = 10;

type Outcome = RerunAnswer | { readonly kind: "unknown"; readonly reason: string };

/**
 * Has the jobs run again, once, whose machines their provider took back. What is to be done is on
 * record before anybody is asked; what nobody answered is asked again, and the forge finds out by
 * itself whether it heard the first time. Called by whoever holds the forge's lease.
 */
export async function rerunRound(
  parts: RerunParts,
  forge: Forge,
  lease: Lease,
  signal: AbortSignal,
): Promise<void> {
  await noteWanted(parts, forge, lease);
  const { db } = parts.store;
  const open = await rerunsIn(db, forge.name, ["wanted", "asking"], atOnce);
  const asked = await rerunsIn(db, forge.name, ["asked"], awaitedAtOnce);
  let calls = 0;
  for (const rerun of [...open, ...asked]) {
    const now = parts.clock.now();
    if (signal.aborted) return;
    const job = await findJob(db, rerun.job);
    if (job === null || now >= rerun.deadline_at) {
      await move(parts, lease, rerun, {
        state: "given_up",
        reason: `not run again: ${lastWord(rerun)}`,
      });
    } else if (rerun.state === "asked") {
      await follow(parts, lease, rerun, job);
    } else if (rerun.next_at <= now && calls < callsAtOnce) {
      if (job.state === "ended") calls++;
      const others = open.filter((other) => other.job !== rerun.job);
      await ask(parts, { forge, lease, signal }, rerun, job, others);
    }
  }
}

function lastWord({ state, reason }: Rerun): string {
  if (state === "asked") return "its new attempt did not begin in time";
  return `its time for that is over (${reason})`;
}

/** Every wish becomes a row, also one that nobody can fulfil: then its reason is told. */
async function noteWanted({ store, clock, pools }: RerunParts, forge: Forge, lease: Lease) {
  const since = clock.now() - wantedMs;
  const jobs = await interruptedJobs(store.db, forge.name, since, atOnce);
  if (jobs.length === 0) return;
  await store.write(async (tx) => {
    await checkLease(tx, lease);
    const deadlineAt = tx.now + wantedMs;
    for (const job of jobs) {
      const isUnwanted = pools.some(({ name, reruns }) => name === job.pool && reruns === false);
      const plan = isUnwanted
        ? `pool ${job.pool} has no job run again`
        : "it is to be run again once, on demand";
      const state = isUnwanted ? "given_up" : "wanted";
      await wantRerun(tx, job, {
        state,
        reason: `its machine was taken back; ${plan}`,
        deadlineAt,
      });
    }
  });
}

async function ask(
  parts: RerunParts,
  held: { readonly forge: Forge; readonly lease: Lease; readonly signal: AbortSignal },
  rerun: Rerun,
  job: StoredJob,
  others: readonly Rerun[],
): Promise<void> {
  const { store, clock, log } = parts;
  const { forge, lease, signal } = held;
  const refusal = await reasonAgainst(parts, forge, job);
  if (refusal !== null) return move(parts, lease, rerun, { state: "given_up", reason: refusal });
  // Its forge may take minutes to find that its machine is gone.
  if (job.state !== "ended") return;
  // On record before the call: whoever takes over knows that it may have been made.
  const asking: Rerun = { ...rerun, state: "asking", tries: rerun.tries + 1 };
  const next = { state: asking.state, tries: asking.tries, next_at: clock.now() + againMs };
  const isOurs = await store.write(async (tx) => {
    await checkLease(tx, lease);
    return moveRerun(tx, rerun, { ...next, reason: rerun.reason });
  });
  if (!isOurs) return;
  const answer = await answerOf(parts, forge, job, others, signal);
  log.info({ job: job.id, forge: forge.name, answer: answer.kind }, "asked to run it again");
  if (answer.kind === "asked") {
    const reason = `${forge.name} was asked to run it again; machines for its labels are on demand until it runs`;
    const deadline = clock.now() + awaitedMs;
    return move(parts, lease, asking, { state: "asked", deadline_at: deadline, reason });
  }
  const { reason } = answer;
  if (answer.kind === "refused") {
    return move(parts, lease, asking, { state: "given_up", reason: `not run again: ${reason}` });
  }
  // Nobody knows whether a call without an answer was heard: it stays `asking`.
  const state = answer.kind === "later" ? "wanted" : "asking";
  return move(parts, lease, asking, { state, reason: `not run again yet: ${reason}` });
}

/** Why it must not be run again, as far as we know by ourselves. */
async function reasonAgainst(
  { store }: RerunParts,
  forge: Forge,
  job: StoredJob,
): Promise<string | null> {
  if (job.outcome === "success" || job.outcome === "skipped") {
    return "its machine was taken back, but it had ended well";
  }
  if (job.work === null) {
    return forge.rerun === undefined
      ? `nobody at ${forge.name} can be asked to run it again`
      : null;
  }
  const cancelled = await findCancellation(store.db, job.id);
  if (cancelled !== null || job.outcome === "cancelled") {
    return `not run again: it was cancelled: ${cancelled ?? job.reason}`;
  }
  const isOther = job.state === "ended" && job.outcome !== "lost";
  return isOther ? `not run again: it ended otherwise, as ${job.outcome}` : null;
}

async function answerOf(
  parts: RerunParts,
  forge: Forge,
  job: StoredJob,
  others: readonly Rerun[],
  signal: AbortSignal,
): Promise<Outcome> {
  const { clock, store, intake } = parts;
  try {
    if (job.work !== null) {
      await intake.record([nextNative(parts, forge, job)]);
      return { kind: "asked" };
    }
    const known = await Promise.all(others.map((other) => findJob(store.db, other.job)));
    const further = known.filter((other) => other?.repository === job.repository);
    return await within(clock, callMs, signal, async (until) =>
      forge.rerun!(
        job,
        further.filter((other) => other !== null),
        until,
      ),
    );
  } catch (error) {
    return { kind: "unknown", reason: error instanceof Error ? error.message : String(error) };
  }
}

/** The same work as another attempt, which has the same name whoever submits it. */
function nextNative({ pools, clock }: RerunParts, forge: Forge, job: StoredJob): JobSighting {
  const labels = [...new Set([...job.labels, onDemandLabel])];
  const match = (asked: readonly string[], offered: readonly string[]) =>
    forge.match(asked, offered);
  // Some pools allow certain labels only: then its machines are told apart by its class alone.
  const isTaken = place({ ...job, labels }, pools, match).pool?.name === job.pool;
  return {
    forge: job.forge,
    externalId: job.externalId,
    attempt: job.attempt + 1,
    state: "waiting",
    outcome: null,
    name: job.name,
    repository: job.repository,
    labels: isTaken ? labels : job.labels,
    trust: job.trust,
    url: job.url,
    runner: null,
    queuedAt: clock.now(),
    startedAt: null,
    endedAt: null,
    work: job.work,
  };
}

/** Looks out for the new attempt: once it has a machine, nothing is left to do. */
async function follow(
  parts: RerunParts,
  lease: Lease,
  rerun: Rerun,
  job: StoredJob,
): Promise<void> {
  const { store, clock } = parts;
  const id = jobId(job.forge, job.externalId, job.attempt + 1);
  // Forges' times may differ from ours by a little.
  const since = (rerun.asked_at ?? rerun.at) - 5 * 60_000;
  const next = (await findJob(store.db, id)) ?? (await nextAttempt(store.db, job, since));
  const askedMs = clock.now() - (rerun.deadline_at - awaitedMs);
  if (next === null && askedMs > unseenMs) {
    const reason = `not run again: ${job.forge} agreed to it and shows nothing of it`;
    return move(parts, lease, rerun, { state: "given_up", reason });
  }
  if (next === null || next.state === "waiting") return;
  const on = next.runner === null ? "" : ` on ${next.runner}`;
  const reason = `it was run again as ${next.id}${on}`;
  await move(parts, lease, rerun, { state: "done", again: next.id, reason });
}

async function move(
  { store }: RerunParts,
  lease: Lease,
  before: Rerun,
  changes: Parameters<typeof moveRerun>[2],
): Promise<void> {
  await store.write(async (tx) => {
    await checkLease(tx, lease);
    await moveRerun(tx, before, changes);
  });
}
