import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { parseDuration } from "../config/text.ts";
import { MayflyError } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";
import { KeptHistory } from "./kept-history.ts";
import type { PastJob } from "./simulate-sources.ts";

/*
 * A repository's history of jobs from GitHub or Gitea: its runs, newest first, and the jobs of each.
 */

export interface HistoryFlags {
  /** `env:NAME` or `file:PATH`. */
  readonly token?: string;
  /** How far back, such as `30d`. */
  readonly since?: string;
  /** The file that the history is kept in: what is there is not fetched again. */
  readonly save?: string;
}

/** Waits and the clock, handed in by tests. */
export interface HistoryWorld {
  readonly now: () => number;
  readonly wait: (ms: number) => Promise<unknown>;
}

const theWorld: HistoryWorld = { now: () => Date.now(), wait: (ms) => sleep(ms) };
const sinceDefault = "30d";
const pageSize = 100;
const gone = z.iso.datetime({ offset: true }).nullish();

/** The fields that are needed of what both forges answer. */
const Run = z.object({
  id: z.number().int(),
  status: z.string().nullish(),
  created_at: gone,
  started_at: gone,
});
const Job = z.object({
  id: z.number().int(),
  name: z.string(),
  conclusion: z.string().nullish(),
  labels: z.array(z.string()).nullish(),
  created_at: gone,
  started_at: gone,
  completed_at: gone,
});
const Runs = z.object({ workflow_runs: z.array(Run).nullish() });
// Gitea's first version with this answer called the list `workflow_jobs`.
const Jobs = z.object({
  jobs: z.array(Job).nullish(),
  workflow_jobs: z.array(Job).nullish(),
});

/** A repository's jobs: those kept in the file of `save`, then those that are fetched. */
export async function* pastJobsOf(
  from: string,
  flags: HistoryFlags,
  say: (line: string) => void,
  world: HistoryWorld = theWorld,
): AsyncGenerator<PastJob> {
  const place = parsePlace(from);
  const forge = new ForgeApi(place, readToken(flags.token, place.kind), say, world);
  const since = world.now() - sinceMs(flags.since);
  const kept = flags.save === undefined ? null : new KeptHistory(flags.save);
  yield* kept?.jobs ?? [];
  let fetched = 0;
  for await (const run of forge.runs(since)) {
    if (kept?.runs.has(String(run.id)) === true) continue;
    const jobs = await forge.jobs(run.id);
    kept?.add(String(run.id), jobs);
    yield* jobs;
    fetched += jobs.length;
    if (fetched % 500 < jobs.length) say(`${fetched} jobs fetched from ${from}`);
  }
}

interface Place {
  readonly kind: "github" | "gitea";
  readonly api: string;
  readonly repository: string;
}

/** `github:owner/repo`, `gitea:https://host/owner/repo`; GitHub's own servers by address too. */
function parsePlace(from: string): Place {
  const repository = "([\\w.-]+/[\\w.-]+)";
  const [, own] = new RegExp(`^github:${repository}$`).exec(from) ?? [];
  if (own !== undefined) return { kind: "github", api: "https://api.github.com", repository: own };
  const [, kind, base, path] =
    new RegExp(`^(github|gitea):(https?://[^\\s?#]+?)/${repository}/?$`).exec(from) ?? [];
  if (base !== undefined && path !== undefined) {
    return kind === "github"
      ? { kind: "github", api: `${base}/api/v3`, repository: path }
      : { kind: "gitea", api: `${base}/api/v1`, repository: path };
  }
  throw new MayflyError("invalid", `${quote(from)} is no repository`, {
    where: "--from",
    hint: "Write github:OWNER/REPO, or gitea:https://HOST/OWNER/REPO.",
  });
}

function readToken(named: string | undefined, kind: Place["kind"]): string | null {
  const standard = kind === "github" ? "GITHUB_TOKEN" : "GITEA_TOKEN";
  if (named === undefined) return process.env[standard] ?? null;
  const [, place, name = ""] = /^(env|file):(.+)$/s.exec(named) ?? [];
  const hint = `Write env:${standard} or file:PATH; a token itself would be seen by everybody here.`;
  if (place === undefined) {
    throw new MayflyError("invalid", "this is no place of a token", { where: "--token", hint });
  }
  try {
    const token = (place === "env" ? process.env[name] : readFileSync(name, "utf8"))?.trim();
    if (token !== undefined && token !== "") return token;
  } catch {
    // As if it were empty.
  }
  throw new MayflyError("not_found", `there is no token in ${named}`, { where: "--token", hint });
}

function sinceMs(text = sinceDefault): number {
  const [, days] = /^(\d{1,4})d$/.exec(text.trim()) ?? [];
  const seconds = days === undefined ? parseDuration(text) : Number(days) * 86_400;
  if (seconds !== null) return seconds * 1000;
  throw new MayflyError("invalid", `${quote(text)} is no length of time`, {
    where: "--since",
    hint: "Write it like 30d or 12h.",
  });
}

const triesMax = 8;
const answerMs = 30_000;
const longestWaitMs = 3_700_000;
const windowsMax = 10_000;

class ForgeApi {
  readonly #place: Place;
  readonly #token: string | null;
  readonly #say: (line: string) => void;
  readonly #world: HistoryWorld;

  constructor(
    place: Place,
    token: string | null,
    say: (line: string) => void,
    world: HistoryWorld,
  ) {
    this.#place = place;
    this.#token = token;
    this.#say = say;
    this.#world = world;
  }

  /** Runs that are over and were created since a moment, newest first. */
  async *runs(since: number): AsyncGenerator<z.infer<typeof Run>> {
    const { kind } = this.#place;
    const seen = new Set<number>();
    let until: number | null = null;
    for (let window = 0; window < windowsMax; window++) {
      let oldest = Infinity;
      let news = 0;
      const query: string = kind === "github" ? `&created=${span(since, until)}` : "";
      for await (const { workflow_runs: runs } of this.#pages(`actions/runs?${query}`, Runs)) {
        for (const run of runs ?? []) {
          const at = moment(run.created_at) ?? moment(run.started_at) ?? Infinity;
          oldest = Math.min(oldest, at);
          if (seen.has(run.id)) continue;
          seen.add(run.id);
          news++;
          // One that still runs would be kept half told.
          if (at >= since && run.status === "completed") yield run;
        }
        if (oldest < since) return;
      }
      // GitHub shows at most 1000 runs of what is asked for: ask again for those before.
      if (kind !== "github" || news === 0 || oldest === Infinity) return;
      until = oldest;
    }
  }

  /** Every job of a run, those of earlier attempts too. */
  async jobs(run: number): Promise<PastJob[]> {
    const jobs: PastJob[] = [];
    const filter = this.#place.kind === "github" ? "filter=all" : "";
    for await (const page of this.#pages(`actions/runs/${run}/jobs?${filter}`, Jobs)) {
      for (const job of page.jobs ?? page.workflow_jobs ?? []) {
        const queuedAt = moment(job.created_at) ?? moment(job.started_at);
        if (queuedAt === null) continue;
        const ran = job.conclusion !== "skipped";
        jobs.push({
          queuedAt,
          startedAt: ran ? moment(job.started_at) : null,
          endedAt: ran ? moment(job.completed_at) : null,
          labels: job.labels ?? [],
          trust: "trusted",
          name: job.name,
          repository: this.#place.repository,
          conclusion: job.conclusion ?? "",
        });
      }
    }
    return jobs;
  }

  async *#pages<T>(path: string, shape: z.ZodType<T>): AsyncGenerator<T> {
    const { api, repository, kind } = this.#place;
    const size = kind === "github" ? `per_page=${pageSize}` : `limit=${pageSize}`;
    const joined = path.endsWith("?") ? path : `${path}&`;
    let next: string | null = `${api}/repos/${repository}/${joined}${size}`.replace("?&", "?");
    while (next !== null) {
      const answer: Response = await this.#get(next);
      const body: unknown = await answer.json().catch(() => null);
      const read = shape.safeParse(body);
      if (!read.success) {
        throw new MayflyError("unavailable", `${api} answered something else than a list`, {
          hint: "Check the address, and that it is the API of this forge.",
        });
      }
      yield read.data;
      next = this.#nextPage(answer, next);
    }
  }

  /** By the Link header; never to another server, for the token goes along. */
  #nextPage(answer: Response, current: string): string | null {
    const link = answer.headers.get("link") ?? "";
    const [, next] = /<([^<>]+)>\s*;[^,]*\brel="?next"?/.exec(link) ?? [];
    if (next === undefined) return null;
    const url = new URL(next, current);
    if (url.origin === new URL(current).origin) return url.href;
    throw new MayflyError("unavailable", `its next page is on another server: ${url.origin}`, {
      where: "--from",
      hint: "Name the server by the address that it calls itself.",
    });
  }

  async #get(url: string): Promise<Response> {
    const headers: Record<string, string> = { accept: "application/json", "user-agent": "mayfly" };
    if (this.#token !== null) headers["authorization"] = `Bearer ${this.#token}`;
    for (let tries = 1; ; tries++) {
      const answer = await this.#ask(url, headers);
      if (typeof answer !== "string" && answer.ok) return answer;
      const delay = typeof answer === "string" ? backOff(tries) : this.#delay(answer, tries);
      const why = typeof answer === "string" ? answer : `HTTP status ${answer.status}`;
      if (delay === null || tries >= triesMax || delay > longestWaitMs) throw this.#refusal(answer);
      if (delay > 5000) this.#say(`${why}: again in ${Math.ceil(delay / 1000)} s`);
      if (typeof answer !== "string") await answer.body?.cancel();
      await this.#world.wait(delay);
    }
  }

  /** The answer, or why there is none. */
  async #ask(url: string, headers: Record<string, string>): Promise<Response | string> {
    try {
      const signal = AbortSignal.timeout(answerMs);
      return await fetch(url, { headers, redirect: "error", signal });
    } catch (error) {
      const cause = (error as Error).cause ?? error;
      return cause instanceof Error ? cause.message : String(cause);
    }
  }

  /**
   * How long a forge wants us to wait; null: the answer is final. GitHub: a spent limit is 403 or
   * 429, with Retry-After or, at x-ratelimit-remaining 0, x-ratelimit-reset in seconds since 1970.
   */
  #delay({ status, headers }: Response, tries: number): number | null {
    if (status >= 500) return backOff(tries);
    if (status !== 403 && status !== 429) return null;
    const after = Number(headers.get("retry-after") ?? NaN);
    if (after >= 0) return after * 1000;
    const reset = Number(headers.get("x-ratelimit-reset") ?? NaN);
    if (headers.get("x-ratelimit-remaining") === "0" && reset > 0) {
      return Math.max(0, reset * 1000 - this.#world.now()) + 1000;
    }
    return status === 429 ? Math.max(60_000, backOff(tries)) : null;
  }

  #refusal(answer: Response | string): MayflyError {
    const { api, repository, kind } = this.#place;
    if (typeof answer === "string") {
      return new MayflyError("unavailable", `${api} cannot be reached: ${answer}`, {
        where: "--from",
      });
    }
    const { status } = answer;
    const isDenied = status === 401 || status === 403 || status === 404;
    const variable = kind === "github" ? "GITHUB_TOKEN" : "GITEA_TOKEN";
    return new MayflyError(
      isDenied ? "forbidden" : "unavailable",
      `${api} answered ${status} for ${repository}`,
      {
        where: "--from",
        hint: isDenied
          ? `Check the name, and that the token may read its actions (--token, or ${variable}).`
          : "What was fetched so far is kept where --save says; try again later.",
      },
    );
  }
}

function backOff(tries: number): number {
  return 1000 * 2 ** Math.min(tries, 6);
}

function span(since: number, until: number | null): string {
  const day = (at: number): string => new Date(at).toISOString().slice(0, 19) + "Z";
  return encodeURIComponent(until === null ? `>=${day(since)}` : `${day(since)}..${day(until)}`);
}

/** Null for what is not there; Gitea writes the year 1 for it. */
function moment(text: string | null | undefined): number | null {
  const at = Date.parse(text ?? "");
  return at > 0 ? at : null;
}
