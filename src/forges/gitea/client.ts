import { MayflyError } from "../../domain/errors.ts";
import { actionsPath, repositoryPath, type ActionsScope } from "../actions-scope.ts";
import type { Rest } from "../rest.ts";
import {
  jobAnswer,
  jobsAnswer,
  registeredAnswer,
  registrationTokenAnswer,
  runnersAnswer,
  versionAnswer,
  type JobAnswer,
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

  /** All jobs in these states (Gitea's words), newest first: those that leave are at the end. */
  jobs(statuses: readonly string[], signal: AbortSignal): Promise<readonly JobAnswer[]> {
    const asked = statuses.map((status) => `status=${status}`).join("&");
    return this.#all(async (page) => {
      const path = `${this.#path}/jobs?${asked}&sort=id&order=desc&limit=${pageSize}&page=${page}`;
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

  async #all<T extends { readonly id: number }>(
    read: (page: number) => Promise<{ readonly items: readonly T[]; readonly total: number }>,
  ): Promise<readonly T[]> {
    const all = new Map<number, T>();
    for (let pass = 0; pass < passesMax; pass++) {
      let [left, total] = [pagesMax, 0];
      for (let page = 1; left > 0; page++, left--) {
        const answer = await read(page);
        total = answer.total;
        for (const item of answer.items) all.set(item.id, item);
        if (answer.items.length === 0 || all.size >= total) break;
      }
      if (all.size >= total || left === 0) break;
    }
    return [...all.values()];
  }
}
