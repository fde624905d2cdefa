import type { JobSighting } from "../../domain/job.ts";
import type { TrustClass } from "../../domain/trust.ts";
import { atOnce } from "../at-once.ts";
import type { ForgeRun, RunLookUp, RunWithJobs } from "../forge.ts";
import type { JobAnswer, ListedRun } from "./answers.ts";
import type { GiteaClient } from "./client.ts";

export interface LookUpParts {
  readonly client: GiteaClient;
  readonly trust: (repository: string, run: number, signal: AbortSignal) => Promise<TrustClass>;
  readonly sighting: (job: JobAnswer, signal: AbortSignal) => Promise<JobSighting | null>;
}

const runForm = /^[1-9][0-9]{0,14}$/;
const lookUpsAtOnce = 4;

/** Runs by their repository: Gitea's API has them since 1.25. */
export class LookUp implements RunLookUp {
  readonly #parts: LookUpParts;

  constructor(parts: LookUpParts) {
    this.#parts = parts;
  }

  async open(repository: string, signal: AbortSignal): Promise<readonly ForgeRun[]> {
    const runs = await this.#parts.client.openRuns(repository, signal);
    return runs.map(toRun).sort((a, b) => Number(b.id) - Number(a.id));
  }

  async find(repository: string, id: string, signal: AbortSignal): Promise<RunWithJobs | null> {
    if (!runForm.test(id)) return null;
    const { client, trust, sighting } = this.#parts;
    const run = await client.run(repository, id, signal);
    if (run === null) return null;
    const jobs = await client.jobsOfRun(repository, id, signal);
    const shown = await atOnce(jobs, lookUpsAtOnce, (job) => sighting(job, signal));
    return {
      ...toRun(run),
      trust: await trust(repository, run.id, signal),
      jobs: shown.filter((job) => job !== null),
    };
  }
}

function toRun(run: ListedRun): ForgeRun {
  return {
    id: String(run.id),
    // Before 1.26 a run does not count its attempts.
    attempt: Math.max(1, run.run_attempt ?? 1),
    isOver: run.status === "completed",
    workflow: run.path.split("@")[0]?.split("/").at(-1) || null,
    url: /^https?:\/\//.test(run.html_url) ? run.html_url : null,
  };
}
