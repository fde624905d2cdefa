import type { JobSighting } from "../../domain/job.ts";
import { atOnce } from "../at-once.ts";
import type { ForgeRun, RunLookUp, RunWithJobs } from "../forge.ts";
import type { JobAnswer, ListedRun } from "./answers.ts";
import type { ForgejoClient } from "./client.ts";
import type { Runs } from "./runs.ts";
import { stateOf } from "./sighting.ts";

export interface LookUpParts {
  readonly client: ForgejoClient;
  readonly runs: Runs;
  readonly sighting: (
    job: JobAnswer,
    repository: string,
    signal: AbortSignal,
  ) => Promise<JobSighting | null>;
}

const runForm = /^[1-9][0-9]{0,14}$/;
const lookUpsAtOnce = 4;

/** Runs by their repository. */
export class LookUp implements RunLookUp {
  readonly #parts: LookUpParts;

  constructor(parts: LookUpParts) {
    this.#parts = parts;
  }

  async open(repository: string, signal: AbortSignal): Promise<readonly ForgeRun[]> {
    const runs = await this.#parts.client.openRuns(repository, signal);
    return runs.map((run) => toRun(run, 1)).sort((a, b) => Number(b.id) - Number(a.id));
  }

  async find(repository: string, id: string, signal: AbortSignal): Promise<RunWithJobs | null> {
    if (!runForm.test(id)) return null;
    const { client, runs, sighting } = this.#parts;
    const run = await client.listedRun(repository, id, signal);
    if (run === null) return null;
    const jobs = await this.#jobs(repository, run.id, signal);
    const shown = await atOnce(jobs, lookUpsAtOnce, (job) => sighting(job, repository, signal));
    // A run does not count its attempts: the newest of its jobs is of its latest one.
    const attempt = Math.max(1, ...jobs.map((job) => job.attempt));
    const { trust } = await runs.facts(repository, run.id, signal);
    return { ...toRun(run, attempt), trust, jobs: shown.filter((job) => job !== null) };
  }

  /** Before 16 a server only lists, of all runs, the jobs that wait and run. */
  async #jobs(repository: string, run: number, signal: AbortSignal): Promise<readonly JobAnswer[]> {
    const { client } = this.#parts;
    const jobs = await client.jobsOfRun(repository, run, signal);
    return jobs ?? (await client.jobs(signal)).filter((job) => job.run_id === run);
  }
}

function toRun(run: ListedRun, attempt: number): ForgeRun {
  return {
    id: String(run.id),
    attempt,
    isOver: stateOf(run.status) === "ended",
    workflow: run.workflow_id === "" ? null : run.workflow_id,
    url: /^https?:\/\//.test(run.html_url) ? run.html_url : null,
  };
}
