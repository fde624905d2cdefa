import { z } from "zod";
import type { JobOutcome, JobSighting, JobState } from "../../domain/job.ts";
import type { TrustClass } from "../../domain/trust.ts";

/*
 * What is read of GitHub's answers and events: only these fields. Their names and types are those
 * of its published OpenAPI document; what a fake server answers is checked against that in tests.
 */

const time = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));
const id = z.int().min(1);
const text = z.string();

const repositoryName = z.object({ id, full_name: text });

/** A job: the same in events (`workflow_job`) and in answers. */
export const workflowJob = z.object({
  id,
  run_id: id,
  run_attempt: z.int().min(1).default(1),
  name: text,
  workflow_name: text.nullish(),
  status: text,
  conclusion: text.nullish(),
  labels: z.array(text).max(1000),
  runner_name: text.nullish(),
  html_url: text.nullish(),
  created_at: time.nullish(),
  started_at: time.nullish(),
  completed_at: time.nullish(),
});
export type WorkflowJob = z.output<typeof workflowJob>;

/** A run: what its jobs are of, and whose code they run. */
export const workflowRun = z.object({
  id,
  event: text,
  status: text.nullish(),
  run_attempt: z.int().min(1).nullish(),
  path: text.nullish(),
  html_url: text.nullish(),
  updated_at: time,
  repository: repositoryName,
  head_repository: repositoryName.nullish(),
});
export type WorkflowRun = z.output<typeof workflowRun>;

export const runsPage = z.object({ workflow_runs: z.array(workflowRun) });
export const jobsPage = z.object({ jobs: z.array(workflowJob) });

export const repositoryItem = z.object({
  full_name: text,
  pushed_at: time.nullish(),
  archived: z.boolean().default(false),
  disabled: z.boolean().default(false),
});
export type RepositoryItem = z.output<typeof repositoryItem>;
export const repositoriesPage = z.array(repositoryItem);

export const runnerItem = z.object({
  id,
  name: text,
  status: text,
  busy: z.boolean(),
});
export type RunnerItem = z.output<typeof runnerItem>;
export const runnersPage = z.object({ total_count: z.int(), runners: z.array(runnerItem) });

export const jitConfig = z.object({
  runner: z.object({ id, name: text }),
  encoded_jit_config: text.min(1),
});

export const groupsPage = z.object({
  runner_groups: z.array(
    z.object({
      id,
      name: text,
      default: z.boolean(),
      allows_public_repositories: z.boolean().default(true),
    }),
  ),
});

export const deliveries = z.array(
  z.object({
    id,
    guid: text,
    delivered_at: time,
    status: text,
    status_code: z.int(),
    event: text,
  }),
);
export type Delivery = z.output<typeof deliveries>[number];

export const meta = z.object({ hooks: z.array(text).max(1000).default([]) });

/** For answers of which nothing is needed. */
export const anything = z.unknown();

/** A queued job that is older is dropped by GitHub; its lists show such phantoms for days. */
export const jobAgeMaxMs = 24 * 3600_000;

const outcomes: Readonly<Record<string, JobOutcome>> = {
  success: "success",
  neutral: "success",
  failure: "failure",
  action_required: "failure",
  cancelled: "cancelled",
  skipped: "skipped",
  timed_out: "timed_out",
  stale: "lost",
  startup_failure: "error",
};

/**
 * A job as it stands in `state`. Its place in time is when it began to wait: GitHub sets
 * `started_at` on queued jobs too, and later than `created_at` where an approval came between.
 */
export function toSighting(
  job: WorkflowJob,
  where: {
    readonly forge: string;
    readonly repository: string;
    readonly trust: TrustClass;
    readonly state: JobState;
    readonly now: number;
  },
): JobSighting {
  const { forge, repository, trust, state, now } = where;
  const createdAt = job.created_at ?? job.started_at ?? now;
  const hasRunner = state !== "waiting" && job.runner_name !== null && job.runner_name !== "";
  return {
    forge,
    externalId: String(job.id),
    attempt: job.run_attempt,
    state,
    outcome: state === "ended" ? (outcomes[job.conclusion ?? ""] ?? "failure") : null,
    name: job.workflow_name ? `${job.workflow_name} / ${job.name}` : job.name,
    repository,
    labels: job.labels,
    trust,
    url: job.html_url ?? null,
    runner: hasRunner ? (job.runner_name ?? null) : null,
    queuedAt: state === "waiting" ? Math.max(createdAt, job.started_at ?? 0) : createdAt,
    startedAt: state === "waiting" ? null : (job.started_at ?? null),
    endedAt: state === "ended" ? (job.completed_at ?? now) : null,
    work: null,
  };
}

/** GitHub's words for a job's state; null for those in which it does not ask for a runner yet. */
export function stateOf(status: string): JobState | null {
  if (status === "queued") return "waiting";
  if (status === "in_progress") return "started";
  if (status === "completed") return "ended";
  // `waiting` for an approval, `pending` behind a concurrency group, `requested`.
  return null;
}
