import type { JobOutcome, JobSighting, JobState } from "../../domain/job.ts";
import type { TrustClass } from "../../domain/trust.ts";
import type { JobAnswer } from "./answers.ts";

/** Gitea's `waiting` is a job that waits for others, or for an approval: not yet for a runner. */
const states: Readonly<Record<string, JobState>> = {
  queued: "waiting",
  in_progress: "started",
  completed: "ended",
};

/** Null: there is nothing to do for it yet. */
export function stateOf({ status }: JobAnswer): JobState | null {
  return states[status] ?? null;
}

const outcomes: Readonly<Record<string, JobOutcome>> = {
  success: "success",
  failure: "failure",
  cancelled: "cancelled",
  skipped: "skipped",
};

export interface SightingParts {
  readonly forge: string;
  readonly job: JobAnswer;
  readonly state: JobState;
  readonly attempt: number;
  readonly repository: string;
  readonly trust: TrustClass;
  readonly runner: string | null;
}

export function toSighting(parts: SightingParts): JobSighting {
  const { forge, job, state, attempt, repository, trust, runner } = parts;
  const startedAt = timeOf(job.started_at);
  return {
    forge,
    externalId: String(job.id),
    attempt,
    state,
    outcome: state === "ended" ? (outcomes[job.conclusion] ?? "lost") : null,
    name: job.name,
    repository,
    labels: job.labels,
    trust,
    url: /^https?:\/\//.test(job.html_url) ? job.html_url : null,
    runner: state === "waiting" ? null : runner,
    queuedAt: timeOf(job.created_at) ?? 0,
    startedAt: state === "waiting" ? null : startedAt,
    endedAt: state === "ended" ? timeOf(job.completed_at) : null,
    work: null,
  };
}

/**
 * Until 1.26 a job's attempt was counted when a runner took it, so one that waits says how often
 * it ran before; since 1.27 every attempt is a job of its own that bears its number from the start.
 */
export function attemptOf(job: JobAnswer, countsAtStart: boolean): number {
  const hasStarted = timeOf(job.started_at) !== null && job.status !== "queued";
  if (countsAtStart && !hasStarted) return job.run_attempt + 1;
  return Math.max(1, job.run_attempt);
}

/** True for servers whose attempts are counted at the start. `version` as the server says it. */
export function countsAtStart(version: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  if (major === undefined || minor === undefined) return false;
  return Number(major) === 1 && Number(minor) < 27;
}

/** `owner/name` from the job's own address; null when that is none. */
export function repositoryOf({ url }: JobAnswer): string | null {
  const [, owner, name] =
    /\/api\/v1\/repos\/([A-Za-z0-9_.-]+)\/([A-Za-z0-9_.-]+)\/actions\//.exec(url) ?? [];
  return owner === undefined || name === undefined ? null : `${owner}/${name}`;
}

/** Gitea writes "never" as the beginning of 1970, or of the year 1. */
function timeOf(text: string): number | null {
  const at = Date.parse(text);
  return Number.isFinite(at) && at > 0 ? at : null;
}
