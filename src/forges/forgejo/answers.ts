import { z } from "zod";

/*
 * What Forgejo answers, as far as it is read here. The shapes are those of `modules/structs/
 * action.go` and `repo_actions.go` in Forgejo's sources, 15 to 17.
 */

const text = z
  .string()
  .nullish()
  .transform((value) => value ?? "");
const id = z.int().nonnegative();

export const jobAnswer = z.object({
  id,
  run_id: id,
  attempt: z.int().nonnegative(),
  handle: z.string(),
  repo_id: id,
  name: text,
  runs_on: z
    .array(z.string())
    .nullish()
    .transform((labels) => labels ?? []),
  status: z.string(),
});
export type JobAnswer = z.output<typeof jobAnswer>;

/** An empty list is `null`. */
export const jobsAnswer = z
  .array(jobAnswer)
  .nullable()
  .transform((jobs) => jobs ?? []);

export const runAnswer = z.object({
  is_fork_pull_request: z.boolean(),
  trigger_event: text,
  status: text,
  created: z.string(),
  stopped: text,
  html_url: text,
});
export type RunAnswer = z.output<typeof runAnswer>;

/** A run in a repository's list, and by itself: `ActionRun`. */
export const listedRun = z.object({ id, status: text, workflow_id: text, html_url: text });
export type ListedRun = z.output<typeof listedRun>;

export const runsAnswer = z.object({
  workflow_runs: z
    .array(listedRun)
    .nullish()
    .transform((runs) => runs ?? []),
});

export const repositoryAnswer = z.object({ full_name: z.string() });

const runnerAnswer = z.object({ id, name: z.string(), status: text, description: text });
export type RunnerAnswer = z.output<typeof runnerAnswer>;

export const runnersAnswer = z
  .array(runnerAnswer)
  .nullable()
  .transform((runners) => runners ?? []);

export const registeredAnswer = z.object({ id, uuid: z.string().min(1), token: z.string().min(1) });
export type Registered = z.output<typeof registeredAnswer>;

/** The end of a run: the only events of Forgejo's that are about jobs. */
export const runEventBody = z.object({
  run: z.object({ id, repository: repositoryAnswer }),
});
