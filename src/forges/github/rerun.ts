import { z } from "zod";
import { MayflyError } from "../../domain/errors.ts";
import type { KnownJob, RerunAnswer } from "../forge.ts";
import type { Client } from "./client.ts";
import { anything, workflowJob, workflowRun, type WorkflowJob } from "./shapes.ts";

const runState = workflowRun.extend({
  run_attempt: z.int().min(1).default(1),
  conclusion: z.string().nullish(),
});
const jobState = workflowJob.extend({ check_run_url: z.string().nullish() });
const jobIds = z.object({ jobs: z.array(z.object({ id: z.int() })) });
const annotations = z.array(z.object({ message: z.string().nullish() }));

/** What GitHub's runner leaves at its job when its machine shuts down. */
const shutDown = /received a shutdown signal/i;

interface Questions {
  readonly client: Client;
  readonly signal: AbortSignal;
}

/**
 * Has one job run again, and those that need it: GitHub does so once all of its run is over, and as
 * the run's next attempt. Where `others` are of the same run, all that failed in it run again, since a
 * run has one next attempt only. That there is one already says that it was heard before.
 */
export async function rerunJob(
  questions: Questions,
  known: KnownJob,
  others: readonly KnownJob[],
): Promise<RerunAnswer> {
  const { client, signal } = questions;
  const [owner, repo] = known.repository.split("/");
  const what = `having a job of ${known.repository} run again`;
  const place = { owner, repo };
  try {
    const job = await client.ask(
      "GET /repos/{owner}/{repo}/actions/jobs/{job_id}",
      { ...place, job_id: Number(known.externalId) },
      { what, schema: jobState, signal },
    );
    const run = await client.ask(
      "GET /repos/{owner}/{repo}/actions/runs/{run_id}",
      { ...place, run_id: job.run_id },
      { what, schema: runState, signal },
    );
    if (run.run_attempt > job.run_attempt) return { kind: "asked" };
    const refusal = await refusalOf(questions, job, place);
    if (refusal !== null) return { kind: "refused", reason: refusal };
    if (run.status !== "completed") {
      return { kind: "later", reason: "other jobs of its run are not over yet" };
    }
    const siblings = await siblingsOf(questions, job, place, others);
    const [route, parameters] =
      siblings > 0
        ? (["runs/{run_id}/rerun-failed-jobs", { run_id: job.run_id }] as const)
        : (["jobs/{job_id}/rerun", { job_id: job.id }] as const);
    await client.ask(
      `POST /repos/{owner}/{repo}/actions/${route}`,
      { ...place, ...parameters },
      { what, schema: anything, signal },
    );
    return { kind: "asked" };
  } catch (error) {
    return asAnswer(error);
  }
}

/** Why this job is not to run again; null: it is. */
async function refusalOf(
  { client, signal }: Questions,
  {
    conclusion,
    check_run_url: checkRun,
  }: WorkflowJob & { check_run_url?: string | null | undefined },
  place: object,
): Promise<string | null> {
  if (conclusion === "failure") return null;
  if (conclusion !== "cancelled") return `it ended as ${conclusion ?? "nothing that GitHub names"}`;
  // GitHub says the same of a job that a person cancelled and of one whose runner was shut down.
  const id = /\/(\d+)$/.exec(checkRun ?? "")?.[1];
  const unclear = "GitHub calls it cancelled, and does not say that its runner was shut down";
  if (id === undefined) return unclear;
  try {
    const told = await client.ask(
      "GET /repos/{owner}/{repo}/check-runs/{check_run_id}/annotations",
      { ...place, check_run_id: Number(id) },
      { what: "asking why a job was cancelled", schema: annotations, signal },
    );
    return told.some(({ message }) => shutDown.test(message ?? "")) ? null : unclear;
  } catch (error) {
    const isFinal = error instanceof MayflyError && isRefusal(error);
    if (isFinal) return "GitHub calls it cancelled; by whom, it tells with `Checks: read` only";
    throw error;
  }
}

/** How many of the others are in the same run. */
async function siblingsOf(
  { client, signal }: Questions,
  job: WorkflowJob,
  place: object,
  others: readonly KnownJob[],
): Promise<number> {
  if (others.length === 0) return 0;
  const { jobs } = await client.ask(
    "GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs",
    { ...place, run_id: job.run_id, per_page: 100 },
    { what: "listing the jobs of a run", schema: jobIds, signal },
  );
  const ids = new Set(jobs.map(({ id }) => String(id)));
  return others.filter(({ externalId }) => ids.has(externalId)).length;
}

function isRefusal({ code }: MayflyError): boolean {
  return ["forbidden", "not_found", "conflict", "invalid"].includes(code);
}

function asAnswer(error: unknown): RerunAnswer {
  if (!(error instanceof MayflyError && isRefusal(error))) throw error;
  const reason = error.message;
  return { kind: /already running/i.test(reason) ? "later" : "refused", reason };
}
