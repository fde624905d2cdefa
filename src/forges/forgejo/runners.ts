import { MayflyError } from "../../domain/errors.ts";
import { isOurs } from "../context.ts";
import type { Registration } from "../forge.ts";
import type { JobAnswer, Registered, RunnerAnswer } from "./answers.ts";
import { descriptionFor, handleIn, type Bindings } from "./bindings.ts";
import type { ForgejoClient } from "./client.ts";

/** Registrations for one certain job each, under our runners' names. */
export class ForgejoRunners {
  readonly #client: ForgejoClient;
  readonly #bindings: Bindings;
  readonly #installation: string;

  constructor(client: ForgejoClient, bindings: Bindings, installation: string) {
    this.#client = client;
    this.#bindings = bindings;
    this.#installation = installation;
  }

  /** All of this installation's. */
  async ours(signal: AbortSignal): Promise<readonly RunnerAnswer[]> {
    const all = await this.#client.runners(signal);
    const ours = all.filter(({ name }) => isOurs(name, this.#installation));
    this.#bindings.learn(ours);
    return ours;
  }

  /**
   * Registers it for the job with this handle. An earlier registration under its name, whose
   * credential was perhaps never read, is removed. `conflict`: an earlier one works.
   */
  async register(name: string, handle: string, signal: AbortSignal): Promise<Registered> {
    const earlier = (await this.ours(signal)).filter((runner) => runner.name === name);
    const running = await this.#runningHandles(earlier, signal);
    for (const { id, description } of earlier) {
      if (running.has(handleIn(description) ?? "")) {
        throw new MayflyError("conflict", `runner ${name} has a job already`);
      }
      await this.#client.deleteRunner(id, signal);
    }
    return this.#client.register(name, descriptionFor(handle), signal);
  }

  async list(signal: AbortSignal): Promise<readonly Registration[]> {
    const ours = await this.ours(signal);
    return ours.map(({ id, name, status }) => ({
      name,
      id: String(id),
      online: status !== "offline",
    }));
  }

  /**
   * There is no pause, and a server deletes a runner whether it works or not. But a runner takes
   * its one job or none: while that runs, or has just been promised to it, it is busy.
   */
  async remove(name: string, signal: AbortSignal): Promise<"gone" | "busy"> {
    const named = (await this.ours(signal)).filter((runner) => runner.name === name);
    if (named.length === 0) return "gone";
    const jobs = await this.#client.jobs(signal);
    let busy = false;
    for (const runner of named) {
      if (this.#isBusy(runner, jobs)) busy = true;
      else await this.#client.deleteRunner(runner.id, signal);
    }
    return busy ? "busy" : "gone";
  }

  #isBusy({ description, status }: RunnerAnswer, jobs: readonly JobAnswer[]): boolean {
    const handle = handleIn(description);
    // Not registered by us, though it has a name of ours: its own word is all there is.
    if (handle === null) return status === "active";
    const job = jobs.find((other) => other.handle === handle);
    if (job === undefined) return false;
    return job.status === "running" || this.#bindings.isFresh(handle);
  }

  async #runningHandles(
    runners: readonly RunnerAnswer[],
    signal: AbortSignal,
  ): Promise<ReadonlySet<string>> {
    if (runners.length === 0) return new Set();
    const jobs = await this.#client.jobs(signal);
    return new Set(jobs.filter(({ status }) => status === "running").map(({ handle }) => handle));
  }
}
