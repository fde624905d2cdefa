import { MayflyError } from "../../domain/errors.ts";
import { actionsPath, repositoryPath, type ActionsScope } from "../actions-scope.ts";
import type { Rest } from "../rest.ts";
import {
  jobAnswer,
  jobsAnswer,
  listedRun,
  registeredAnswer,
  registrationTokenAnswer,
  runnersAnswer,
  runsAnswer,
  versionAnswer,
  type JobAnswer,
  type ListedRun,
  type RunnerAnswer,
} from "./answers.ts";

export interface Registered {
  readonly id: number;
  readonly uuid: string;
  readonly token: string;
}

/** As many as a server gives by default (`[api] MAX_RESPONSE_ITEMS`); one set lower gives fewer. */
const pageSize = 50;
const pagesMax = 200;
/** Lists shift while their pages are read. */
const passesMax = 3;

/** Gitea's API, as far as it is used. */
export class GiteaClient {
  readonly #rest: Rest;
  readonly #path: string;

  constructor(rest: Rest, scope: ActionsScope) {
    this.#rest = rest;
    this.#path = actionsPath(scope);
  }

  async version(signal: AbortSignal): Promise<string> {
    return (await this.#rest.get("/api/v1/version", versionAnswer, signal)).version;
  }

  /** All jobs in these states, in Gitea's words. */
  jobs(statuses: readonly string[], signal: AbortSignal): Promise<readonly JobAnswer[]> {
    const asked = statuses.map((status) => `status=${status}`).join("&");
    return this.#all(async (page) => {
      const path = `${this.#path}/jobs?${asked}&sort=id&order=asc&limit=${pageSize}&page=${page}`;
      const { jobs, total_count: total } = await this.#rest.get(path, jobsAnswer, signal);
      return { items: jobs, total };
    });
  }

  /** Null: there is no such job, or no such repository any more. */
  async job(repository: string, id: string, signal: AbortSignal): Promise<JobAnswer | null> {
    const path = repositoryPath(repository);
    if (path === null || !/^\d{1,15}$/.test(id)) return null;
    return this.#rest.find(`${path}/actions/jobs/${id}`, jobAnswer, signal);
  }

  /** A repository's runs that are not over. Empty: there is no such repository, too. */
  async openRuns(repository: string, signal: AbortSignal): Promise<readonly ListedRun[]> {
    const path = repositoryPath(repository);
    if (path === null) return [];
    const asked = ["queued", "in_progress"].map((status) => `status=${status}`);
    const query = `${asked.join("&")}&exclude_pull_requests=true&limit=${pageSize}&page=1`;
    const found = await this.#rest.find(`${path}/actions/runs?${query}`, runsAnswer, signal);
    return found?.workflow_runs ?? [];
  }

  /** How a run stands. Null: there is none. */
  async run(
    repository: string,
    id: string | number,
    signal: AbortSignal,
  ): Promise<ListedRun | null> {
    const path = repositoryPath(repository);
    if (path === null) return null;
    const query = "exclude_pull_requests=true";
    return this.#rest.find(`${path}/actions/runs/${id}?${query}`, listedRun, signal);
  }

  /** All jobs of a run's latest attempt. */
  jobsOfRun(repository: string, run: string, signal: AbortSignal): Promise<readonly JobAnswer[]> {
    const base = repositoryPath(repository);
    return this.#all(async (page) => {
      const path = `${base}/actions/runs/${run}/jobs?limit=${pageSize}&page=${page}`;
      const { jobs, total_count: total } = await this.#rest.get(path, jobsAnswer, signal);
      return { items: jobs, total };
    });
  }

  /**
   * Has one job of a run run again, or all that failed in it. Returns the status: 404 and 405 also
   * from servers before 1.26, which have no such call; 400 and 409 while the run is not over.
   */
  async rerun(
    repository: string,
    { run, job }: { readonly run: number; readonly job: number | null },
    signal: AbortSignal,
  ): Promise<number> {
    const path = `${repositoryPath(repository) ?? ""}/actions/runs/${run}`;
    const what = job === null ? "rerun-failed-jobs" : `jobs/${job}/rerun`;
    const expect = [400, 403, 404, 405, 409, 422];
    const call = { method: "POST", path: `${path}/${what}`, expect } as const;
    return (await this.#rest.call(call, signal)).status;
  }

  runners(signal: AbortSignal): Promise<readonly RunnerAnswer[]> {
    return this.#all(async (page) => {
      const path = `${this.#path}/runners?limit=${pageSize}&page=${page}`;
      const { runners, total_count: total } = await this.#rest.get(path, runnersAnswer, signal);
      return { items: runners, total };
    });
  }

  /** Keeps a runner from taking a job. False: this server cannot, before 1.26. */
  async disable(runner: number, signal: AbortSignal): Promise<boolean> {
    const { status } = await this.#rest.call(
      {
        method: "PATCH",
        path: `${this.#path}/runners/${runner}`,
        send: { disabled: true },
        expect: [404, 405],
      },
      signal,
    );
    return status < 300;
  }

  async deleteRunner(runner: number, signal: AbortSignal): Promise<void> {
    const path = `${this.#path}/runners/${runner}`;
    await this.#rest.call({ method: "DELETE", path, expect: [404] }, signal);
  }

  /**
   * Registers a runner for one job, as its own program would: the registration token, which is good
   * for any number of runners for ever, never leaves the manager.
   */
  async register(
    name: string,
    labels: readonly string[],
    signal: AbortSignal,
  ): Promise<Registered> {
    const path = `${this.#path}/runners/registration-token`;
    const answer = await this.#rest.call({ method: "POST", path }, signal);
    const { token } = this.#rest.parse(path, answer.body, registrationTokenAnswer);
    const service = "/api/actions/runner.v1.RunnerService/Register";
    const { body, status } = await this.#rest.call(
      {
        method: "POST",
        path: service,
        send: { name, token, version: "mayfly", labels, ephemeral: true },
        anonymous: true,
        expect: [404],
      },
      signal,
    );
    if (status !== 404) return this.#rest.parse(service, body, registeredAnswer).runner;
    throw new MayflyError("unavailable", "the server has no runner service", {
      hint: "Actions are switched off there: set `[actions] ENABLED = true` in its app.ini.",
    });
  }

  /**
   * Reads a list to its end. When that changed meanwhile, something may have slipped from a page to
   * the one before: it is read again, and what was seen at any time counts.
   */
  async #all<T extends { readonly id: number }>(
    read: (page: number) => Promise<Page<T>>,
  ): Promise<readonly T[]> {
    const union = new Map<number, T>();
    for (let pass = 0; pass < passesMax; pass++) {
      const { items, isWhole } = await readOnce(read);
      if (isWhole) return [...items.values()];
      for (const [id, item] of items) union.set(id, item);
    }
    return [...union.values()];
  }
}

interface Page<T> {
  readonly items: readonly T[];
  /** Of the whole list, at that moment. */
  readonly total: number;
}

/**
 * The first page tells how many there are; then from the last to the first. What leaves a list in
 * the order of ids moves others to the page before: that is still to come, so none is missed.
 */
async function readOnce<T extends { readonly id: number }>(
  read: (page: number) => Promise<Page<T>>,
): Promise<{ readonly items: ReadonlyMap<number, T>; readonly isWhole: boolean }> {
  const items = new Map<number, T>();
  const totals = new Set<number>();
  const take = async (page: number): Promise<Page<T>> => {
    const answer = await read(page);
    totals.add(answer.total);
    for (const item of answer.items) items.set(item.id, item);
    return answer;
  };
  const first = await take(1);
  const size = first.items.length;
  const pages = size === 0 ? 1 : Math.min(pagesMax, Math.ceil(first.total / size));
  if (pages > 1) for (let page = pages; page >= 1; page--) await take(page);
  return { items, isWhole: totals.size === 1 && totals.has(items.size) };
}
