import type { JobOutcome, JobSighting, JobState } from "../../domain/job.ts";
import type { JobAnswer } from "./answers.ts";
import type { RunFacts } from "./runs.ts";

const outcomes: Readonly<Record<string, JobOutcome>> = {
  success: "success",
  failure: "failure",
  cancelled: "cancelled",
  skipped: "skipped",
};

/** Null: it waits for others or for an approval (`blocked`), or its state has no meaning here. */
export function stateOf(status: string): JobState | null {
  if (status === "waiting") return "waiting";
  if (status === "running") return "started";
  return status in outcomes ? "ended" : null;
}

export function outcomeOf(status: string): JobOutcome {
  return outcomes[status] ?? "lost";
}

/** Its run is part of its name here, since that is what the server finds it by. */
export function externalIdOf({ run_id: run, id }: JobAnswer): string {
  return `${run}-${id}`;
}

export function runOf(externalId: string): { readonly run: number; readonly id: number } | null {
  const [, run, id] = /^(\d{1,15})-(\d{1,15})$/.exec(externalId) ?? [];
  return run === undefined || id === undefined ? null : { run: Number(run), id: Number(id) };
}

export interface SightingParts {
  readonly forge: string;
  readonly job: JobAnswer;
  readonly state: JobState;
  readonly repository: string;
  readonly facts: RunFacts;
  readonly runner: string | null;
  readonly now: number;
}

/** Jobs bear no times of their own: they count as queued when their run was made. */
export function toSighting(parts: SightingParts): JobSighting {
  const { forge, job, state, repository, facts, runner, now } = parts;
  return {
    forge,
    externalId: externalIdOf(job),
    attempt: Math.max(1, job.attempt),
    state,
    outcome: state === "ended" ? outcomeOf(job.status) : null,
    name: job.name,
    repository,
    labels: job.runs_on,
    trust: facts.trust,
    url: facts.url,
    runner: state === "waiting" ? null : runner,
    queuedAt: facts.createdAt,
    startedAt: null,
    endedAt: state === "ended" ? now : null,
    work: null,
  };
}
