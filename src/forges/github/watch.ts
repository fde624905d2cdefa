import pLimit from "p-limit";
import { MayflyError } from "../../domain/errors.ts";
import type { JobSighting } from "../../domain/job.ts";
import type { Client } from "./client.ts";
import type { Repositories } from "./repositories.ts";
import {
  jobAgeMaxMs,
  jobsPage,
  runsPage,
  stateOf,
  toSighting,
  type WorkflowJob,
  type WorkflowRun,
} from "./shapes.ts";
import type { RunTrust } from "./trust.ts";

export interface WatchParts {
  readonly forge: string;
  readonly client: Client;
  readonly trust: RunTrust;
  readonly repositories: Repositories;
  readonly now: () => number;
  /** Whether another way tells of a job with these labels. */
  readonly isToldOtherwise: (labels: readonly string[]) => boolean;
}

/** What one poll asks at most, changed or not: 300 a minute, of the 900 that GitHub takes. */
const questionsMax = 150;
/** So few even while the quota runs low: one repository with a run or two. */
const questionsMin = 6;
/** A poll that takes longer leaves the rest to the next: the fleet gives it a minute. */
const pollMs = 40_000;
/** A repository stays of interest for so long after a push, an event or a job there. */
const stirredMs = 5 * 60_000;
const callsAtOnce = 5;
const runPagesMax = 3;
const jobPagesMax = 5;
const active = ["queued", "in_progress"] as const;

interface Visit {
  readonly repository: string;
  readonly statuses: readonly string[];
}

/** What one poll may still ask. */
interface Allowance {
  questions: number;
  readonly untilAt: number;
}

/**
 * What waits and runs in all repositories of a scope, for a bounded number of questions a poll.
 * GitHub has no list of an organisation's jobs, only one of a repository's runs and one of a run's
 * jobs. So those where something goes on are looked at in each poll, the others take turns; and all
 * questions are whether something has changed, which costs nothing of the quota when it has not.
 */
export class Watch {
  readonly #parts: WatchParts;
  /** What each repository showed last, until it is looked at again. */
  readonly #seen = new Map<string, readonly JobSighting[]>();
  readonly #visited = new Map<string, { readonly at: number; readonly status: string }>();
  readonly #stirredAt = new Map<string, number>();

  constructor(parts: WatchParts) {
    this.#parts = parts;
  }

  /** Something goes on there. */
  stirred(repository: string): void {
    this.#stirredAt.set(repository, this.#parts.now());
  }

  /** Throws `too_many` when the quota left is kept for other things. */
  async poll(signal: AbortSignal): Promise<readonly JobSighting[]> {
    const { client, repositories, now } = this.#parts;
    const share = client.quota.share();
    const allowance: Allowance = {
      questions: Math.max(questionsMin, Math.floor(questionsMax * share)),
      untilAt: now() + pollMs,
    };
    const listed = await repositories.list(signal);
    for (const [name, pushedAt] of listed) {
      if (pushedAt > (this.#stirredAt.get(name) ?? 0)) this.#stirredAt.set(name, pushedAt);
    }
    this.#forget(listed);
    const limit = pLimit(callsAtOnce);
    const failures: unknown[] = [];
    await Promise.all(
      this.#order(listed).map((visit) =>
        limit(async () => {
          if (allowance.questions <= 0 || now() > allowance.untilAt || failures.length > 0) return;
          allowance.questions -= visit.statuses.length;
          await this.#visit(visit, allowance, signal).catch((error: unknown) =>
            failures.push(error),
          );
        }),
      ),
    );
    if (failures.length > 0) throw failures[0];
    return [...this.#seen.values()].flat();
  }

  /** Those of interest first, each kind by how long ago it was looked at. */
  #order(listed: ReadonlyMap<string, number>): Visit[] {
    const since = this.#parts.now() - stirredMs;
    const isBusy = (name: string): boolean =>
      (this.#seen.get(name)?.length ?? 0) > 0 || (this.#stirredAt.get(name) ?? 0) > since;
    const byAge = [...listed.keys()].sort(
      (a, b) => (this.#visited.get(a)?.at ?? 0) - (this.#visited.get(b)?.at ?? 0),
    );
    const busy = byAge.filter(isBusy).map((repository) => ({ repository, statuses: active }));
    // All of a small organisation in each poll. Of a large one the quiet take turns, each time with
    // the other of the two lists: a run begins queued, but its later jobs wait in one that runs.
    const isSmall = listed.size * active.length <= questionsMax / 2;
    const quiet = byAge
      .filter((name) => !isBusy(name))
      .map((repository) => {
        const isQueuedNext = this.#visited.get(repository)?.status !== "queued";
        const statuses = isSmall ? active : [isQueuedNext ? "queued" : "in_progress"];
        return { repository, statuses };
      });
    return [...busy, ...quiet];
  }

  async #visit(
    { repository, statuses }: Visit,
    allowance: Allowance,
    signal: AbortSignal,
  ): Promise<void> {
    const { repositories, now, client } = this.#parts;
    const [owner, repo] = repository.split("/");
    const runs = new Map<number, WorkflowRun>();
    try {
      for (const status of statuses) {
        const question = {
          what: `listing runs of ${repository}`,
          schema: runsPage,
          signal,
          isKept: true,
        };
        const listed = await client.pages(
          "GET /repos/{owner}/{repo}/actions/runs",
          { owner, repo, status },
          question,
          (page) => page.workflow_runs,
          runPagesMax,
        );
        for (const run of listed) runs.set(run.id, run);
      }
    } catch (error) {
      if (!isOfRepository(error) || !repositories.lost(repository, error)) throw error;
      this.#seen.delete(repository);
      return;
    }
    // Phantoms: runs that GitHub lists as active and has long dropped.
    const since = now() - jobAgeMaxMs;
    const living = [...runs.values()].filter((run) => run.updated_at > since);
    const sightings: JobSighting[] = [];
    for (const run of living) {
      allowance.questions -= 1;
      sightings.push(...(await this.#jobsOf(run, repository, signal)));
    }
    this.#visited.set(repository, { at: now(), status: statuses.at(-1) ?? "" });
    // One list alone does not show that nothing is there.
    if (sightings.length === 0 && statuses.length < active.length) return;
    if (sightings.length > 0) this.#seen.set(repository, sightings);
    else this.#seen.delete(repository);
  }

  async #jobsOf(
    run: WorkflowRun,
    repository: string,
    signal: AbortSignal,
  ): Promise<readonly JobSighting[]> {
    const { client, trust, forge, now } = this.#parts;
    const [owner, repo] = repository.split("/");
    const jobs = await client.pages(
      "GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs",
      { owner, repo, run_id: run.id, filter: "latest" },
      { what: `listing jobs of ${repository}`, schema: jobsPage, signal, isKept: true },
      (page) => page.jobs,
      jobPagesMax,
    );
    const known = { forge, repository, trust: trust.learn(run), now: now() };
    return jobs.flatMap((job) => this.#sighting(job, known));
  }

  #sighting(
    job: WorkflowJob,
    known: Omit<Parameters<typeof toSighting>[1], "state">,
  ): readonly JobSighting[] {
    const state = stateOf(job.status);
    if (state === null || state === "ended" || this.#parts.isToldOtherwise(job.labels)) return [];
    const sighting = toSighting(job, { ...known, state });
    return isPhantom(sighting, known.now) ? [] : [sighting];
  }

  #forget(listed: ReadonlyMap<string, number>): void {
    for (const map of [this.#seen, this.#visited, this.#stirredAt]) {
      for (const name of map.keys()) if (!listed.has(name)) map.delete(name);
    }
  }
}

/** It still waits after a day: GitHub gives it to nobody any more. */
export function isPhantom({ state, queuedAt }: JobSighting, now: number): boolean {
  return state === "waiting" && now - queuedAt > jobAgeMaxMs;
}

/** Of this repository alone: it is gone, hidden, or its Actions are switched off. */
function isOfRepository(error: unknown): error is MayflyError {
  return error instanceof MayflyError && ["not_found", "forbidden", "invalid"].includes(error.code);
}
