import { MayflyError } from "../../../domain/errors.ts";
import type { JobSighting } from "../../../domain/job.ts";
import { quote } from "../../../domain/words.ts";
import type { ForgeLog } from "../../context.ts";
import type { KnownJob } from "../../forge.ts";
import type { Address } from "../address.ts";
import type { Client } from "../client.ts";
import type { Fetch } from "../fetch.ts";
import type { GithubOptions } from "../options.ts";
import type { Runners } from "../runners.ts";
import { workflowRun } from "../shapes.ts";
import type { RunTrust } from "../trust.ts";
import { runOf, ScaleSetListener, type Tell } from "./listener.ts";
import { isRefusal, ScaleSetClient } from "./scale-set.ts";
import { ScaleSetService } from "./service.ts";

export interface LineParts {
  readonly forge: string;
  readonly address: Address;
  readonly client: Client;
  readonly fetch: Fetch;
  readonly now: () => number;
  readonly log: ForgeLog;
  /** What GitHub's pages show as the one who listens. */
  readonly owner: string;
  readonly trust: RunTrust;
  readonly runners: Runners;
  readonly isOurs: (repository: string) => boolean;
}

/** A scale set as the forge uses it. */
export interface ScaleSetLine {
  readonly open: readonly JobSighting[];
  listen(tell: Tell, signal: AbortSignal): Promise<void>;
  find(job: KnownJob, signal: AbortSignal): Promise<JobSighting | null>;
  /** A runner's just-in-time configuration. */
  register(name: string, signal: AbortSignal): Promise<string>;
}

const nameTries = 3;

/** Whether a job is one that a scale set's messages told of. */
export function isOfLine(externalId: string): boolean {
  return runOf(externalId) !== null;
}

/** Null when the configuration names no scale set to listen to. */
export function openScaleSet(options: GithubOptions, parts: LineParts): ScaleSetLine | null {
  const { scaleset, by } = options;
  if (scaleset === undefined || !by?.includes("scaleset")) return null;
  const { forge, client: rest, trust, now, log, owner, isOurs, runners } = parts;
  const settings = { ...scaleset, group: options.group ?? null, owner };
  const client = new ScaleSetClient(new ScaleSetService({ ...parts, client: rest }), settings);
  const { name } = scaleset;
  const listener = new ScaleSetListener({ forge, client, trust, name, isOurs, now, log });
  return {
    get open() {
      return listener.open;
    },
    listen: (tell, signal) => listener.listen(tell, signal),
    register: (runner, signal) => register(client, runners, runner, signal),
    find: async (job, signal) => {
      const found = await findByRun(job, parts, signal);
      if (found !== null && found.state !== "ended") listener.remember(found);
      return found;
    },
  };
}

/** A name that is taken is one that we gave before. */
async function register(
  client: ScaleSetClient,
  runners: Runners,
  name: string,
  signal: AbortSignal,
): Promise<string> {
  for (let tries = 1; ; tries++) {
    try {
      return await client.jitConfig(name, signal);
    } catch (error) {
      // The scale set may have been made anew since we looked.
      if (isRefusal(error, "RunnerScaleSetNotFound")) client.forget();
      if (!isRefusal(error, "AgentExists") || tries >= nameTries) throw error;
      if ((await runners.remove(name, signal)) === "busy") {
        throw new MayflyError("conflict", `a runner named ${quote(name)} works on a job`);
      }
    }
  }
}

/**
 * The API does not know a job by the service's id, but knows its run: while that goes on, the job is
 * as it was last told; when it is over, so is the job.
 */
async function findByRun(
  { externalId, attempt, repository }: KnownJob,
  { client, forge, now, trust }: LineParts,
  signal: AbortSignal,
): Promise<JobSighting | null> {
  const [owner, repo] = repository.split("/");
  try {
    const run = await client.ask(
      "GET /repos/{owner}/{repo}/actions/runs/{run_id}",
      { owner, repo, run_id: runOf(externalId) },
      { what: `asking about a run of ${repository}`, schema: workflowRun, signal },
    );
    const isOver = run.status === "completed";
    return {
      forge,
      externalId,
      attempt,
      state: isOver ? "ended" : "waiting",
      outcome: isOver ? "lost" : null,
      name: "",
      repository,
      labels: [],
      trust: trust.learn(run),
      url: null,
      runner: null,
      queuedAt: now(),
      startedAt: null,
      endedAt: isOver ? run.updated_at : null,
      work: null,
    };
  } catch (error) {
    if (error instanceof MayflyError && error.code === "not_found") return null;
    throw error;
  }
}
