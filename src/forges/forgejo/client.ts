import { actionsPath, repositoryPath, type ActionsScope } from "../actions-scope.ts";
import type { Rest } from "../rest.ts";
import {
  jobsAnswer,
  listedRun,
  registeredAnswer,
  repositoryAnswer,
  runAnswer,
  runnersAnswer,
  runsAnswer,
  type JobAnswer,
  type ListedRun,
  type Registered,
  type RunAnswer,
  type RunnerAnswer,
} from "./answers.ts";

const pageSize = 50;
const pagesMax = 200;

/** Forgejo's API, as far as it is used. */
export class ForgejoClient {
  readonly #rest: Rest;
  readonly #path: string;

  constructor(rest: Rest, scope: ActionsScope) {
    this.#rest = rest;
    this.#path = `${actionsPath(scope)}/runners`;
  }

  /** All that wait and run; the server knows no pages of these. */
  jobs(signal: AbortSignal): Promise<readonly JobAnswer[]> {
    return this.#rest.get(`${this.#path}/jobs`, jobsAnswer, signal);
  }

  /** `owner/name`; null: there is no such repository, or the token may not see it. */
  async repository(id: number, signal: AbortSignal): Promise<string | null> {
    const path = `/api/v1/repositories/${id}`;
    return (await this.#rest.find(path, repositoryAnswer, signal))?.full_name ?? null;
  }

  async run(repository: string, id: number, signal: AbortSignal): Promise<RunAnswer | null> {
    const path = repositoryPath(repository);
    if (path === null) return null;
    return this.#rest.find(`${path}/actions/runs/${id}`, runAnswer, signal);
  }

  /** A repository's runs that are not over. Empty: there is no such repository, too. */
  async openRuns(repository: string, signal: AbortSignal): Promise<readonly ListedRun[]> {
    const path = repositoryPath(repository);
    if (path === null) return [];
    const asked = ["waiting", "running"].map((status) => `status=${status}`).join("&");
    const runs = `${path}/actions/runs?${asked}&limit=${pageSize}&page=1`;
    return (await this.#rest.find(runs, runsAnswer, signal))?.workflow_runs ?? [];
  }

  async listedRun(repository: string, id: string, signal: AbortSignal): Promise<ListedRun | null> {
    const path = repositoryPath(repository);
    if (path === null) return null;
    return this.#rest.find(`${path}/actions/runs/${id}`, listedRun, signal);
  }

  /** However they stand. Null: no such run, or a server before 16, which cannot say. */
  async jobsOfRun(
    repository: string,
    run: number,
    signal: AbortSignal,
  ): Promise<readonly JobAnswer[] | null> {
    const path = repositoryPath(repository);
    if (path === null) return null;
    return this.#rest.find(`${path}/actions/runs/${run}/jobs`, jobsAnswer, signal);
  }

  async runners(signal: AbortSignal): Promise<readonly RunnerAnswer[]> {
    const all = new Map<number, RunnerAnswer>();
    for (let page = 1; page <= pagesMax; page++) {
      const path = `${this.#path}?limit=${pageSize}&page=${page}`;
      const runners = await this.#rest.get(path, runnersAnswer, signal);
      const before = all.size;
      for (const runner of runners) all.set(runner.id, runner);
      // Pages shift as runners come and go: only one without anything new is the end.
      if (all.size === before) break;
    }
    return [...all.values()];
  }

  async register(name: string, description: string, signal: AbortSignal): Promise<Registered> {
    const send = { name, description, ephemeral: true };
    const { body } = await this.#rest.call({ method: "POST", path: this.#path, send }, signal);
    return this.#rest.parse(this.#path, body, registeredAnswer);
  }

  async deleteRunner(id: number, signal: AbortSignal): Promise<void> {
    const path = `${this.#path}/${id}`;
    await this.#rest.call({ method: "DELETE", path, expect: [404] }, signal);
  }
}
