import type { JobSighting } from "../../domain/job.ts";
import { subsetIgnoringCase } from "../../domain/label-rules.ts";
import { MayflyError } from "../../domain/errors.ts";
import type { Program } from "../../domain/program.ts";
import type { Runner } from "../../domain/runner.ts";
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
import { parseAddress, type Address } from "./address.ts";
import { Client, type Credential } from "./client.ts";
import { readEvent } from "./events.ts";
import type { GithubOptions } from "./options.ts";
import { runnerOrders } from "./orders.ts";
import { LookUp } from "./look-up.ts";
import { Redelivery } from "./redelivery.ts";
import { Repositories } from "./repositories.ts";
import { rerunJob } from "./rerun.ts";
import { Runners } from "./runners.ts";
import { Senders } from "./senders.ts";
import { checkSignature } from "./signature.ts";
import { stateOf, toSighting, workflowJob } from "./shapes.ts";
import { isOfLine, openScaleSet, type ScaleSetLine } from "./scale-set/line.ts";
import { TokenLife } from "./token-life.ts";
import { RunTrust } from "./trust.ts";
import { isPhantom, Watch } from "./watch.ts";

/**
 * A forge at GitHub: github.com, a tenant of ghe.com, or a GitHub Enterprise Server. Nothing is
 * asked of it yet. Throws `invalid` for options that cannot be.
 */
export function openGithub(options: GithubOptions, context: ForgeContext): Forge {
  return new GithubForge(options, context);
}

class GithubForge implements Forge {
  readonly name: string;
  readonly #options: GithubOptions;
  readonly #context: ForgeContext;
  readonly #address: Address;
  readonly #client: Client;
  readonly #trust: RunTrust;
  readonly #repositories: Repositories;
  readonly #watch: Watch;
  readonly #redelivery: Redelivery;
  readonly #runners: Runners;
  readonly #senders: Senders | null;
  readonly #isPolled: boolean;
  readonly #line: ScaleSetLine | null;
  readonly runs: RunLookUp;
  /** Absent without a scale set. */
  readonly listen?: NonNullable<Forge["listen"]>;

  constructor(options: GithubOptions, context: ForgeContext) {
    const { name, now, log, fetch = globalThis.fetch, installation } = context;
    this.name = name;
    this.#options = options;
    this.#context = context;
    const address = parseAddress(options.url);
    this.#address = address;
    const life = new TokenLife(now, log);
    const client = new Client({
      address,
      credential: credentialOf(options),
      fetch,
      now,
      expires: (at) => life.told(at),
    });
    this.#client = client;
    this.#trust = new RunTrust(client);
    const { repositories: only } = options;
    this.runs = new LookUp({ forge: name, client, trust: this.#trust, now });
    this.#repositories = new Repositories({ scope: address.scope, client, only, now, log });
    this.#watch = new Watch({
      forge: name,
      client,
      trust: this.#trust,
      repositories: this.#repositories,
      now,
      isToldOtherwise: (labels) => this.#isOfScaleSet(labels),
    });
    this.#redelivery = new Redelivery({ client, now, log });
    const group = options.group ?? null;
    this.#runners = new Runners({ address, client, group, prefix: `${installation}-`, now, log });
    this.#senders =
      options.addresses === undefined ? null : new Senders(options.addresses, client, now);
    this.#isPolled = options.by?.includes("poll") ?? true;
    this.#line = openScaleSet(options, {
      forge: name,
      address,
      client,
      fetch,
      now,
      log,
      owner: installation,
      trust: this.#trust,
      runners: this.#runners,
      isOurs: (repository) => this.#repositories.isOurs(repository),
    });
    const line = this.#line;
    if (line !== null) this.listen = (tell, signal) => line.listen(tell, signal);
  }

  match(asked: readonly string[], offered: readonly string[]): boolean {
    return subsetIgnoringCase(asked, offered);
  }

  async verify(request: ForgeRequest): Promise<ForgeEvents> {
    const { secret } = this.#options;
    if (secret === undefined) {
      throw new MayflyError("unauthenticated", `forge ${this.name} takes no events`, {
        hint: "Give it the `secret` that its webhooks are signed with at GitHub.",
      });
    }
    checkSignature(request, secret.reveal());
    await this.#senders?.check(request.address ?? null);
    return readEvent(request, {
      forge: this.name,
      trust: this.#trust,
      now: this.#context.now,
      isOurs: (repository) => this.#repositories.isOurs(repository),
      isToldOtherwise: (labels) => this.#isOfScaleSet(labels),
      stirred: (repository) => {
        this.#repositories.named(repository);
        this.#watch.stirred(repository);
      },
      installation: (action) => this.#installationTold(action),
    });
  }

  async poll(signal: AbortSignal): Promise<readonly JobSighting[]> {
    if (this.#options.secret !== undefined) await this.#redelivery.round(signal);
    const polled = this.#isPolled ? await this.#watch.poll(signal) : [];
    return [...polled, ...(this.#line?.open ?? [])];
  }

  async find(job: KnownJob, signal: AbortSignal): Promise<JobSighting | null> {
    const { externalId, attempt, repository } = job;
    const { now } = this.#context;
    if (isOfLine(externalId)) return this.#line?.find(job, signal) ?? null;
    const [owner, repo] = repository.split("/");
    try {
      const job = await this.#client.ask(
        "GET /repos/{owner}/{repo}/actions/jobs/{job_id}",
        { owner, repo, job_id: Number(externalId) },
        { what: `asking about a job of ${repository}`, schema: workflowJob, signal },
      );
      const trust = this.#trust.known(job.run_id);
      const state = stateOf(job.status) ?? "waiting";
      const known = { forge: this.name, repository, trust, now: now() };
      const sighting = { ...toSighting(job, { ...known, state }), attempt };
      this.#repositories.named(repository);
      if (state !== "ended") this.#watch.stirred(repository);
      if (!isPhantom(sighting, now())) return sighting;
      const { log } = this.#context;
      log.warn({ forge: this.name, job: externalId }, "it has waited for a day and is given up");
      return { ...sighting, state: "ended", outcome: "lost", endedAt: now() };
    } catch (error) {
      if (error instanceof MayflyError && error.code === "not_found") return null;
      throw error;
    }
  }

  async rerun(
    job: KnownJob,
    others: readonly KnownJob[],
    signal: AbortSignal,
  ): Promise<RerunAnswer> {
    if (isOfLine(job.externalId)) {
      return { kind: "refused", reason: "a scale set's messages do not say which job it is" };
    }
    return rerunJob({ client: this.#client, signal }, job, others);
  }

  mint(_runner: Runner, context: MintContext): Promise<Program> {
    return Promise.resolve(mintGuest(this.#context.guestProgram, context));
  }

  async handOver(
    { name, labels }: Runner,
    context: HandOverContext,
    signal: AbortSignal,
  ): Promise<RunnerOrders> {
    const line = this.#isOfScaleSet(labels) ? this.#line : null;
    const config = await (line !== null
      ? line.register(name, signal)
      : this.#runners.register(name, labels, signal));
    return runnerOrders(config, this.#options.programs, context);
  }

  registrations(signal: AbortSignal): Promise<readonly Registration[]> {
    return this.#runners.list(signal);
  }

  remove(name: string, signal: AbortSignal): Promise<"gone" | "busy"> {
    return this.#runners.remove(name, signal);
  }

  /** The scale set's own messages tell of these, under names of their own. */
  #isOfScaleSet(labels: readonly string[]): boolean {
    const { scaleset, by } = this.#options;
    if (scaleset === undefined || !by?.includes("scaleset")) return false;
    return labels.length > 0 && this.match(labels, [scaleset.name, ...scaleset.labels]);
  }

  #installationTold(action: string): void {
    const { log } = this.#context;
    const fields = { forge: this.name, address: this.#address.url };
    this.#repositories.changed();
    if (action === "suspend" || action === "deleted") {
      log.warn(fields, `the App's installation was ${action === "suspend" ? "suspended" : action}`);
    } else log.info(fields, "the App's installation changed");
  }
}

function credentialOf({ app, key, token, installation }: GithubOptions): Credential {
  if (token !== undefined) return { kind: "token", token: token.reveal() };
  if (app === undefined || key === undefined) {
    throw new MayflyError("invalid", "there is no credential", { where: "app" });
  }
  const id = installation ?? null;
  return { kind: "app", app: String(app), key: key.reveal(), installation: id };
}
