import type { JobSighting } from "../../domain/job.ts";
import { subsetNonEmpty } from "../../domain/label-rules.ts";
import type { Program } from "../../domain/program.ts";
import type { Runner } from "../../domain/runner.ts";
import { parseScope } from "../actions-scope.ts";
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
  RunLookUp,
  RunnerOrders,
} from "../forge.ts";
import { mintGuest } from "../guest-birth.ts";
import { Rest } from "../rest.ts";
import type { JobAnswer } from "./answers.ts";
import { Bindings } from "./bindings.ts";
import { ForgejoClient } from "./client.ts";
import { readEvent } from "./event.ts";
import { LookUp } from "./look-up.ts";
import type { ForgejoOptions } from "./options.ts";
import { ordersFor } from "./orders.ts";
import { ForgejoRunners } from "./runners.ts";
import { Runs } from "./runs.ts";
import { externalIdOf, outcomeOf, runOf, stateOf, toSighting } from "./sighting.ts";

/** The sender of an event waits 5 seconds (`[webhook] DELIVER_TIMEOUT`). */
const eventMs = 4_000;
/** Events come in swarms, a push with its pull request and its tags. */
const hintMs = 1_000;
const lookUpsAtOnce = 8;

/** Opens a forge on a Forgejo server, 15 or newer. Asks nothing of it yet. */
export function openForgejo(options: ForgejoOptions, context: ForgeContext): Forge {
  return new ForgejoForge(options, context);
}

class ForgejoForge implements Forge {
  readonly name: string;
  readonly #options: ForgejoOptions;
  readonly #context: ForgeContext;
  readonly #client: ForgejoClient;
  readonly #bindings: Bindings;
  readonly #runners: ForgejoRunners;
  readonly #runs: Runs;
  readonly #aging: Aging;
  readonly runs: RunLookUp;
  #hintedAt = -Infinity;

  constructor(options: ForgejoOptions, context: ForgeContext) {
    const { name, now, installation } = context;
    const rest = new Rest({ name, url: options.url, token: options.token.reveal() });
    this.name = name;
    this.#options = options;
    this.#context = context;
    this.#client = new ForgejoClient(rest, parseScope(options.scope));
    this.#bindings = new Bindings(now);
    this.#runners = new ForgejoRunners(this.#client, this.#bindings, installation);
    this.#runs = new Runs(this.#client, context);
    this.#aging = new Aging(context);
    this.runs = new LookUp({
      client: this.#client,
      runs: this.#runs,
      sighting: (job, repository, signal) => this.#sighting(job, repository, signal),
    });
  }

  match(asked: readonly string[], offered: readonly string[]): boolean {
    return subsetNonEmpty(asked, offered);
  }

  /**
   * There is no event for a queued job, only for the end of a run. Any other event is taken as a
   * hint to look what waits now: a push or a pull request may have made jobs.
   */
  async verify(request: ForgeRequest): Promise<ForgeEvents> {
    const event = readEvent(request, this.name, this.#options.secret?.reveal() ?? null);
    const signal = AbortSignal.timeout(eventMs);
    if (event.kind === "run") return this.#endedRun(event.repository, event.run, signal);
    const now = this.#context.now();
    if (now - this.#hintedAt < hintMs) {
      return { sightings: [], note: "it is no event of a job, and what waits was just looked at" };
    }
    this.#hintedAt = now;
    const sightings = await this.#shown(signal);
    return { sightings, note: sightings.length === 0 ? "no job waits or runs" : "" };
  }

  async poll(signal: AbortSignal): Promise<readonly JobSighting[]> {
    return this.#aging.judge(await this.#shown(signal));
  }

  async find(known: KnownJob, signal: AbortSignal): Promise<JobSighting | null> {
    const ids = runOf(known.externalId);
    if (ids === null) return null;
    const { repository } = known;
    const jobs = await this.#client.jobsOfRun(repository, ids.run, signal);
    if (jobs === null) return this.#fromRun(known, ids.run, signal);
    const job = jobs.find(({ id }) => id === ids.id);
    if (job === undefined) return null;
    const sighting = await this.#sighting(job, repository, signal);
    if (sighting === null || sighting.attempt === known.attempt) return sighting;
    // Run again under the same id: how the earlier attempt went is not to be had any more.
    const over = { state: "ended", outcome: "lost", endedAt: this.#context.now() } as const;
    return { ...sighting, ...over, runner: null, attempt: known.attempt };
  }

  mint(_runner: Runner, context: MintContext): Promise<Program> {
    return Promise.resolve(mintGuest(this.#context.guestProgram, context));
  }

  /** Null while no job waits that it may take: it is registered for a certain one only. */
  async handOver(
    runner: Runner,
    context: HandOverContext,
    signal: AbortSignal,
  ): Promise<RunnerOrders | null> {
    const handle = await this.#choose(runner, context, signal);
    if (handle === null) return null;
    try {
      const registered = await this.#runners.register(runner.name, handle, signal);
      const { runnerUrl, url, programs } = this.#options;
      return ordersFor({ url: runnerUrl ?? url, runner, registered, handle, context, programs });
    } catch (error) {
      this.#bindings.release(handle);
      throw error;
    }
  }

  registrations(signal: AbortSignal): Promise<readonly Registration[]> {
    return this.#runners.list(signal);
  }

  remove(name: string, signal: AbortSignal): Promise<"gone" | "busy"> {
    return this.#runners.remove(name, signal);
  }

  /** The oldest job that waits for such a runner and is promised to no other. */
  async #choose(
    { name, labels }: Runner,
    { accept }: HandOverContext,
    signal: AbortSignal,
  ): Promise<string | null> {
    const jobs = await this.#client.jobs(signal);
    const fitting = jobs
      .filter(({ status, runs_on: asked }) => status === "waiting" && this.match(asked, labels))
      .sort((a, b) => a.id - b.id);
    for (const job of fitting) {
      const repository = await this.#runs.repository(job.repo_id, signal);
      if (repository === null) continue;
      const { trust } = await this.#runs.facts(repository, job.run_id, signal);
      // Looked at only now: while we asked, another may have been promised it.
      if (!accept.includes(trust) || this.#bindings.isTakenBy(job.handle, name)) continue;
      this.#bindings.bind(job.handle, name);
      return job.handle;
    }
    return null;
  }

  async #shown(signal: AbortSignal): Promise<readonly JobSighting[]> {
    const jobs = await this.#client.jobs(signal);
    const isUnknown = ({ status, handle }: JobAnswer): boolean =>
      status === "running" && this.#bindings.runnerOf(handle) === null;
    // A manager that was started anew learns whose they are.
    if (jobs.some(isUnknown)) await this.#runners.ours(signal);
    const sightings = await atOnce(jobs, lookUpsAtOnce, async (job) => {
      const repository = await this.#runs.repository(job.repo_id, signal);
      return repository === null ? null : this.#sighting(job, repository, signal);
    });
    return sightings.filter((sighting) => sighting !== null);
  }

  /** Null: it is not for a runner yet. */
  async #sighting(
    job: JobAnswer,
    repository: string,
    signal: AbortSignal,
  ): Promise<JobSighting | null> {
    const state = stateOf(job.status);
    if (state === null) return null;
    const facts = await this.#runs.facts(repository, job.run_id, signal);
    const runner = this.#bindings.runnerOf(job.handle);
    const now = this.#context.now();
    return toSighting({ forge: this.name, job, state, repository, facts, runner, now });
  }

  async #endedRun(repository: string, run: number, signal: AbortSignal): Promise<ForgeEvents> {
    const jobs = (await this.#client.jobsOfRun(repository, run, signal)) ?? [];
    const told = await atOnce(jobs, lookUpsAtOnce, (job) =>
      this.#sighting(job, repository, signal),
    );
    const sightings = told.filter((sighting) => sighting !== null);
    return { sightings, note: sightings.length === 0 ? "the run has no jobs to be seen" : "" };
  }

  /** Before 16 only the run as a whole can be asked about. */
  async #fromRun(known: KnownJob, run: number, signal: AbortSignal): Promise<JobSighting | null> {
    const told = await this.#client.run(known.repository, run, signal);
    if (told === null) return null;
    const shown = await this.#client.jobs(signal);
    const job = shown.find((other) => externalIdOf(other) === known.externalId);
    if (job !== undefined) return this.#sighting(job, known.repository, signal);
    // It neither waits nor runs; how it went is known when all of the run went so.
    const outcome = stateOf(told.status) === "ended" ? outcomeOf(told.status) : "lost";
    return {
      ...{ forge: this.name, ...known, state: "ended", outcome, name: "", labels: [] },
      ...{ trust: "fork", url: null, runner: null, queuedAt: 0, startedAt: null, work: null },
      endedAt: this.#context.now(),
    };
  }
}
