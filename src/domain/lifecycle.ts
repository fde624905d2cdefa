import { jobStates } from "./job.ts";
import type { JobOutcome, JobSighting } from "./job.ts";
import type { Pool } from "./pool.ts";
import type { Runner } from "./runner.ts";

/** What the reconciler does with a runner now. */
export type Step =
  /** Ask the provider for its machine; repeated after a failure, since it is idempotent. */
  | { readonly do: "create" }
  /** It is no longer wanted. `outcome`: what becomes of the job it runs. */
  | { readonly do: "end"; readonly reason: string; readonly outcome?: JobOutcome }
  /** It runs a job that its forge has told nothing of. */
  | { readonly do: "begin"; readonly reason: string }
  /** Remove its registration, then its machine. */
  | { readonly do: "remove" }
  /** Nothing before `until` (ms); null: never again. */
  | { readonly do: "wait"; readonly until: number | null };

/** Guests end their job at its deadline themselves; only one that did not is ended from here. */
const guestGraceSeconds = 60;
/** A forge's runner says within this that it got a job after all, or that it is over. */
const restMs = 15_000;
/** As long as GitHub lets a job run, for runners whose pool is no longer configured. */
const orphanJobDeadlineSeconds = 6 * 3600;
/** An idle machine ends at the latest after this, wanted or not: a fresh one is surely sound. */
const longestIdleSeconds = 3600;
const longestWarmSeconds = 24 * 3600;

/**
 * The next step in a runner's life: `claimed`, `asked`, `up`, `started`, `ended`, `gone`. Every
 * state that waits has a deadline and a decided end. `pool` is null when it is no longer configured:
 * then only a job that runs is waited for. `newsMs`: how late we may learn that it came up.
 */
export function nextStep(runner: Runner, pool: Pool | null, now: number, newsMs = 0): Step {
  const { claimedAt, askedAt, upAt, startedAt } = runner;
  if (runner.state === "gone") return { do: "wait", until: null };
  if (runner.state === "ended") {
    const until = restsUntil(runner, pool);
    return now < until ? { do: "wait", until } : { do: "remove" };
  }
  if (runner.state === "started") {
    const seconds = pool?.jobDeadlineSeconds ?? orphanJobDeadlineSeconds;
    const since = startedAt ?? upAt ?? askedAt ?? claimedAt;
    const reason = `its job ran longer than ${seconds} s and its guest did not end it`;
    return waitOrEnd(since, seconds + guestGraceSeconds, now, { reason, outcome: "timed_out" });
  }
  if (pool === null) {
    return { do: "end", reason: `pool ${runner.pool} is no longer configured` };
  }
  const bootSeconds = pool.bootDeadlineSeconds;
  switch (runner.state) {
    case "claimed": {
      const reason = `the provider did not accept it within ${bootSeconds} s`;
      const step = waitOrEnd(claimedAt, bootSeconds, now, { reason });
      return step.do === "wait" ? { do: "create" } : step;
    }
    case "asked": {
      const reason = `it did not come up within ${bootSeconds} s`;
      return waitOrEnd(askedAt ?? claimedAt, bootSeconds + newsMs / 1000, now, { reason });
    }
    case "up": {
      if (startedAt !== null) {
        const until = startedAt + newsMs;
        if (now < until) return { do: "wait", until };
        return { do: "begin", reason: "its guest says that a job began; its forge has not" };
      }
      const bound = keepsIdle(pool) ? longestWarmSeconds : longestIdleSeconds;
      const seconds = Math.max(pool.idleSeconds, bound);
      const reason = `no job came within ${seconds} s`;
      return waitOrEnd(upAt ?? askedAt ?? claimedAt, seconds, now, { reason });
    }
  }
}

/**
 * How long the machine of an ended runner is left alone, ms since the epoch. A forge's own runner may
 * still report its job's end; and may have got a job in the moment in which we took it from the forge.
 */
function restsUntil(
  { handedAt, startedAt, finishedAt, endedAt }: Runner,
  pool: Pool | null,
): number {
  if (handedAt === null || finishedAt !== null || endedAt === null) return 0;
  if (startedAt === null || startedAt < endedAt) return endedAt + restMs;
  const seconds = pool?.jobDeadlineSeconds ?? orphanJobDeadlineSeconds;
  return startedAt + (seconds + guestGraceSeconds) * 1000;
}

function waitOrEnd(
  since: number,
  seconds: number,
  now: number,
  end: { reason: string; outcome?: JobOutcome },
): Step {
  const until = since + seconds * 1000;
  return now < until ? { do: "wait", until } : { do: "end", ...end };
}

function keepsIdle(pool: Pool): boolean {
  return pool.min > 0 || pool.warm > 0 || pool.schedule.some((window) => window.warm > 0);
}

/** What a sighting adds to a job. */
export interface Advance {
  readonly changed: boolean;
  /** Only the fields that are new: `{ ...job, ...changes }` is the job as known now. */
  readonly changes: Partial<JobSighting>;
}

/**
 * Merges a sighting into the job as known. Sightings come late, doubled and in any order, so:
 * a state only moves forward and `ended` is final with its outcome; a later attempt is another job
 * and replaces this one whole, an earlier attempt says nothing; times, runner, address and work
 * fill what was not known and never change what was. What identifies the job (labels, trust, name,
 * when it was queued) stays as first seen, for its pool was chosen by it.
 */
export function advanceJob(known: JobSighting | undefined, sighting: JobSighting): Advance {
  if (known === undefined || sighting.attempt > known.attempt) {
    return { changed: true, changes: sighting };
  }
  if (sighting.attempt < known.attempt) return { changed: false, changes: {} };

  const isFurther = jobStates.indexOf(sighting.state) > jobStates.indexOf(known.state);
  // GitHub sets `started_at` on jobs that still wait: a field counts only in the state it is of.
  const hasStarted = sighting.state !== "waiting";
  const hasEnded = sighting.state === "ended";
  const merged: Partial<JobSighting> = {
    state: isFurther ? sighting.state : known.state,
    outcome: known.outcome ?? (hasEnded ? sighting.outcome : null),
    url: known.url ?? sighting.url,
    runner: known.runner ?? (hasStarted ? sighting.runner : null),
    startedAt: known.startedAt ?? (hasStarted ? sighting.startedAt : null),
    endedAt: known.endedAt ?? (hasEnded ? sighting.endedAt : null),
    work: known.work ?? sighting.work,
  };
  const fields = Object.keys(merged) as (keyof JobSighting)[];
  const news = fields.filter((field) => merged[field] !== known[field]);
  return {
    changed: news.length > 0,
    changes: Object.fromEntries(news.map((field) => [field, merged[field]])),
  };
}

const shortestRetryMs = 1000;
const longestRetryMs = 5 * 60 * 1000;

/**
 * How long to wait after the `tries`th failure in a row: somewhere (`random01`, 0 to 1) between a
 * second and 2^tries seconds, at most five minutes. The full width keeps many that failed together
 * from coming back together.
 */
export function retryDelayMs(tries: number, random01: number): number {
  const ceiling = Math.min(longestRetryMs, shortestRetryMs * 2 ** Math.max(0, tries));
  return Math.round(shortestRetryMs + random01 * (ceiling - shortestRetryMs));
}
