import { z } from "zod";

/*
 * What Gitea answers, as far as it is read here. The shapes are those of `modules/structs/
 * repo_actions.go` and `templates/swagger/v1_json.tmpl` in Gitea's sources, 1.26 and 1.27.
 */

/** Go writes a list that was never filled as `null`. */
function list<T extends z.ZodType>(of: T) {
  return z
    .array(of)
    .nullish()
    .transform((items) => items ?? []);
}

const text = z
  .string()
  .nullish()
  .transform((value) => value ?? "");
const id = z.int().nonnegative();

export const jobAnswer = z.object({
  id,
  run_id: id,
  name: text,
  url: z.string(),
  html_url: text,
  labels: list(z.string()),
  run_attempt: z.int().nonnegative(),
  status: z.string(),
  conclusion: text,
  runner_id: id.nullish(),
  runner_name: text,
  created_at: z.string(),
  started_at: text,
  completed_at: text,
});
export type JobAnswer = z.output<typeof jobAnswer>;

export const jobsAnswer = z.object({ jobs: list(jobAnswer), total_count: id });

export const eventBody = z.object({ workflow_job: jobAnswer });

/** `path` ends in `@` and the ref that the run is of. */
export const runAnswer = z.object({ event: text, path: text });

/** A run as `open` and `find` need it: `ActionWorkflowRun`. */
export const listedRun = z.object({
  id,
  status: text,
  path: text,
  html_url: text,
  run_attempt: z.int().nonnegative().nullish(),
});
export type ListedRun = z.output<typeof listedRun>;

export const runsAnswer = z.object({ workflow_runs: list(listedRun), total_count: id });

/** `repo` is null when the fork has been deleted; `label` is empty for a push to `refs/for`. */
const branch = z.object({ label: text, repo_id: z.int(), repo: z.object({ id }).nullish() });
export const pullAnswer = z.object({ head: branch.nullish(), base: branch.nullish() });

const runnerAnswer = z.object({
  id,
  name: z.string(),
  status: text,
  disabled: z.boolean().nullish(),
});
export type RunnerAnswer = z.output<typeof runnerAnswer>;

export const runnersAnswer = z.object({ runners: list(runnerAnswer), total_count: id });

export const versionAnswer = z.object({ version: z.string() });

export const registrationTokenAnswer = z.object({ token: z.string().min(1) });

/** RunnerService speaks protobuf's JSON: 64-bit numbers are strings. */
export const registeredAnswer = z.object({
  runner: z.object({
    id: z.union([z.string().regex(/^\d{1,15}$/), id]).transform(Number),
    uuid: z.string().min(1),
    token: z.string().min(1),
  }),
});
