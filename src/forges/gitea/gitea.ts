import { MayflyError } from "../../domain/errors.ts";
import type { JobSighting } from "../../domain/job.ts";
import { subset } from "../../domain/label-rules.ts";
import type { Program } from "../../domain/program.ts";
import type { Runner } from "../../domain/runner.ts";
import { parseScope, type ActionsScope } from "../actions-scope.ts";
import { Aging } from "../aging.ts";
import { atOnce } from "../at-once.ts";
import type { ForgeContext } from "../context.ts";
import type {
  Forge,
  ForgeEvents,
  ForgeRequest,
  HandOverContext,
  KnownJob,
  MintContext,
  Registration,
  RerunAnswer,
  RunLookUp,
  RunnerOrders,
} from "../forge.ts";
import { mintGuest } from "../guest-birth.ts";
import { Rest } from "../rest.ts";
import type { JobAnswer } from "./answers.ts";
import { GiteaClient } from "./client.ts";
import { readEvent } from "./event.ts";
import { LookUp } from "./look-up.ts";
import type { GiteaOptions } from "./options.ts";
import { ordersFor } from "./orders.ts";
import { rerunJob } from "./rerun.ts";
import { GiteaRunners } from "./runners.ts";
import { attemptOf, countsAtStart, repositoryOf, stateOf, toSighting } from "./sighting.ts";
import { RunTrust } from "./trust.ts";

/** The sender of an event waits 5 seconds (`[webhook] DELIVER_TIMEOUT`). */
const eventMs = 4_000;
/** A server may be brought up to date while we run. */
const versionMs = 10 * 60_000;
const lookUpsAtOnce = 8;

/** Opens a forge on a Gitea server, 1.25 or newer. Asks nothing of it yet. */
export function openGitea(options: GiteaOptions, context: ForgeContext): Forge {
  return new GiteaForge(options, context);
}

class GiteaForge implements Forge {
  readonly name: string;
  readonly #options: GiteaOptions;
  readonly #context: ForgeContext;
  readonly #scope: ActionsScope;
  readonly #client: GiteaClient;
  readonly #runners: GiteaRunners;
  readonly #trust: RunTrust;
  readonly #aging: Aging;
  readonly runs: RunLookUp;
  #version: { readonly text: string; readonly readAt: number } | null = null;

  constructor(options: GiteaOptions, context: ForgeContext) {
    const { name, installation } = context;
    const rest = new Rest({ name, url: options.url, token: options.token.reveal() });
    this.name = name;
    this.#options = options;
    this.#context = context;
    this.#scope = parseScope(options.scope);
    this.#client = new GiteaClient(rest, this.#scope);
    this.#runners = new GiteaRunners(this.#client, installation);
    this.#trust = new RunTrust(rest, context);
    this.#aging = new Aging(context);
    this.runs = new LookUp({
      client: this.#client,
      trust: (repository, run, signal) => this.#trust.of(repository, run, signal),
      sighting: (job, signal) => this.#sighting(job, signal),
    });
  }

  match(asked: readonly string[], offered: readonly string[]): boolean {
    return subset(asked, offered);
  }

  async verify(request: ForgeRequest): Promise<ForgeEvents> {
    const event = readEvent(request, this.name, this.#options.secret?.reveal() ?? null);
    if (event.job === null) return { sightings: [], note: event.note };
    if (!this.#serves(repositoryOf(event.job))) {
      return { sightings: [], note: "its repository is outside of the forge's scope" };
    }
    const sighting = await this.#sighting(event.job, AbortSignal.timeout(eventMs));
    if (sighting !== null) return { sightings: [sighting], note: "" };
    return { sightings: [], note: `the job is ${event.job.status}: no runner may take it yet` };
  }

  async poll(signal: AbortSignal): Promise<readonly JobSighting[]> {
    const jobs = await this.#client.jobs(["queued", "in_progress"], signal);
    const shown = await atOnce(jobs, lookUpsAtOnce, (job) => this.#sighting(job, signal));
    return this.#aging.judge(shown.filter((job) => job !== null));
  }

  async find(known: KnownJob, signal: AbortSignal): Promise<JobSighting | null> {
    const job = await this.#client.job(known.repository, known.externalId, signal);
    if (job === null) return null;
    const sighting = await this.#sighting(job, signal);
    if (sighting === null || sighting.attempt === known.attempt) return sighting;
    // Run again under the same id: how the earlier attempt went is not to be had any more.
    const over = { state: "ended", outcome: "lost", endedAt: this.#context.now() } as const;
    return { ...sighting, ...over, runner: null, attempt: known.attempt };
  }

  async rerun(
    job: KnownJob,
    others: readonly KnownJob[],
    signal: AbortSignal,
  ): Promise<RerunAnswer> {
    const version = await this.#serverVersion(signal);
    return rerunJob(this.#client, version, job, others, signal);
  }

  mint(_runner: Runner, context: MintContext): Promise<Program> {
    return Promise.resolve(mintGuest(this.#context.guestProgram, context));
  }

  async handOver(
    runner: Runner,
    context: HandOverContext,
    signal: AbortSignal,
  ): Promise<RunnerOrders> {
    const { runnerUrl, url, programs, oldRunners } = this.#options;
    const registered = await this.#runners.register(runner.name, runner.labels, signal);
    const parts = { runner, registered, context, programs, oldRunners };
    return ordersFor({ url: runnerUrl ?? url, ...parts });
  }

  registrations(signal: AbortSignal): Promise<readonly Registration[]> {
    return this.#runners.list(signal);
  }

  remove(name: string, signal: AbortSignal): Promise<"gone" | "busy"> {
    return this.#runners.remove(name, signal);
  }

  /** Null: it is not for a runner yet. */
  async #sighting(job: JobAnswer, signal: AbortSignal): Promise<JobSighting | null> {
    const state = stateOf(job);
    if (state === null) return null;
    const repository = repositoryOf(job);
    if (repository === null) {
      throw new MayflyError("unavailable", `forge ${this.name}: a job without a repository`, {
        where: "workflow_job.url",
      });
    }
    const trust = await this.#trust.of(repository, job.run_id, signal);
    const attempt = attemptOf(job, countsAtStart(await this.#serverVersion(signal)));
    const runner = this.#runners.nameOf(job.runner_id, job.runner_name);
    return toSighting({ forge: this.name, job, state, attempt, repository, trust, runner });
  }

  async #serverVersion(signal: AbortSignal): Promise<string> {
    const now = this.#context.now();
    if (this.#version !== null && now - this.#version.readAt < versionMs) return this.#version.text;
    const text = await this.#client.version(signal);
    this.#version = { text, readAt: now };
    return text;
  }

  #serves(repository: string | null): boolean {
    const [owner = "", name = ""] = (repository ?? "").toLowerCase().split("/");
    switch (this.#scope.kind) {
      case "organization":
        return owner === this.#scope.name.toLowerCase();
      case "repository":
        return owner === this.#scope.owner.toLowerCase() && name === this.#scope.name.toLowerCase();
      case "user":
      case "server":
        return true;
    }
  }
}
