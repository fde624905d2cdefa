import { MayflyError } from "../../domain/errors.ts";
import type { ForgeRun, RunLookUp, RunWithJobs } from "../forge.ts";
import type { Client } from "./client.ts";
import {
  jobAgeMaxMs,
  jobsPage,
  runsPage,
  stateOf,
  toSighting,
  workflowRun,
  type WorkflowRun,
} from "./shapes.ts";
import type { RunTrust } from "./trust.ts";

export interface LookUpParts {
  readonly forge: string;
  readonly client: Client;
  readonly trust: RunTrust;
  readonly now: () => number;
}

const active = ["in_progress", "queued"] as const;
const runPagesMax = 2;
const jobPagesMax = 5;
const runForm = /^[1-9][0-9]{0,14}$/;

/**
 * Runs by their repository. All questions are whether something has changed, which costs nothing of
 * the quota when it has not.
 */
export class LookUp implements RunLookUp {
  readonly #parts: LookUpParts;

  constructor(parts: LookUpParts) {
    this.#parts = parts;
  }

  async open(repository: string, signal: AbortSignal): Promise<readonly ForgeRun[]> {
    const { client, now, trust } = this.#parts;
    const [owner, repo] = repository.split("/");
    const runs = new Map<number, WorkflowRun>();
    for (const status of active) {
      const listed = await client.pages(
        "GET /repos/{owner}/{repo}/actions/runs",
        { owner, repo, status },
        { what: `listing runs of ${repository}`, schema: runsPage, signal, isKept: true },
        (page) => page.workflow_runs,
        runPagesMax,
      );
      for (const run of listed) runs.set(run.id, run);
    }
    // Phantoms: runs that GitHub lists as active and has long dropped.
    const since = now() - jobAgeMaxMs;
    const living = [...runs.values()].filter((run) => run.updated_at > since);
    for (const run of living) trust.learn(run);
    return living.sort((a, b) => b.id - a.id).map(toRun);
  }

  async find(repository: string, run: string, signal: AbortSignal): Promise<RunWithJobs | null> {
    if (!runForm.test(run)) return null;
    const { client, forge, now } = this.#parts;
    const [owner, repo] = repository.split("/");
    const which = { owner, repo, run_id: Number(run) };
    const what = `asking about run ${run} of ${repository}`;
    try {
      const route = "GET /repos/{owner}/{repo}/actions/runs/{run_id}";
      const found = await client.ask(route, which, {
        what,
        schema: workflowRun,
        signal,
        isKept: true,
      });
      // A repository that was renamed answers for its old name.
      if (found.repository.full_name.toLowerCase() !== repository.toLowerCase()) return null;
      const jobs = await client.pages(
        `${route}/jobs`,
        { ...which, filter: "latest" },
        { what, schema: jobsPage, signal, isKept: true },
        (page) => page.jobs,
        jobPagesMax,
      );
      const trust = this.#parts.trust.learn(found);
      const sightings = jobs.flatMap((job) => {
        const state = stateOf(job.status);
        return state === null
          ? []
          : [toSighting(job, { forge, repository, trust, state, now: now() })];
      });
      return { ...toRun(found), trust, jobs: sightings };
    } catch (error) {
      if (error instanceof MayflyError && error.code === "not_found") return null;
      throw error;
    }
  }
}

function toRun(run: WorkflowRun): ForgeRun {
  return {
    id: String(run.id),
    attempt: run.run_attempt ?? 1,
    isOver: run.status === "completed",
    // `.github/workflows/build.yml`, with `@` and a ref where the workflow is another repository's.
    workflow: run.path?.split("@")[0]?.split("/").at(-1) ?? null,
    url: run.html_url ?? null,
  };
}
