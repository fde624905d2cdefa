import { MayflyError } from "../../domain/errors.ts";
import { BoundedMap } from "../bounded-map.ts";
import { isOurs } from "../context.ts";
import type { Registration } from "../forge.ts";
import type { RunnerAnswer } from "./answers.ts";
import type { GiteaClient, Registered } from "./client.ts";

/** Within which a server has given out the job that it was just about to give to a runner. */
const settleMs = 300;
/** As many as may have lived while news of their jobs can still come. */
const namesMax = 20_000;

/** Registrations for one job each, under our runners' names. */
export class GiteaRunners {
  readonly #client: GiteaClient;
  readonly #installation: string;
  /**
   * A runner's registration is gone when its job is over, and its name with it: what then tells of
   * the job gives its id alone.
   */
  readonly #names = new BoundedMap<number, string>(namesMax);

  constructor(client: GiteaClient, installation: string) {
    this.#client = client;
    this.#installation = installation;
  }

  /** The name of the runner with this id, as far as it is known. */
  nameOf(id: number | null | undefined, told: string): string | null {
    if (!id) return null;
    if (told === "") return this.#names.get(id) ?? null;
    this.#names.set(id, told);
    return told;
  }

  /**
   * Registers it anew: an earlier registration under its name, whose credential was perhaps never
   * read, is removed. `conflict`: an earlier one has a job already.
   */
  async register(
    name: string,
    labels: readonly string[],
    signal: AbortSignal,
  ): Promise<Registered> {
    if ((await this.remove(name, signal)) === "busy") {
      throw new MayflyError("conflict", `runner ${name} has a job already`);
    }
    const registered = await this.#client.register(name, labels, signal);
    this.#names.set(registered.id, name);
    return registered;
  }

  async list(signal: AbortSignal): Promise<readonly Registration[]> {
    const all = await this.#client.runners(signal);
    const ours = all.filter(({ name }) => isOurs(name, this.#installation));
    for (const { id, name } of ours) this.#names.set(id, name);
    return ours.map(({ id, name, status }) => ({
      name,
      id: String(id),
      online: status === "online",
    }));
  }

  /**
   * A server deletes a runner whether it has a job or not, and what it says of `busy` is ten seconds
   * old at best. So it is disabled first; then the jobs that run tell whether it took one.
   */
  async remove(name: string, signal: AbortSignal): Promise<"gone" | "busy"> {
    const named = (await this.#client.runners(signal)).filter((runner) => runner.name === name);
    if (named.length === 0) return "gone";
    let isDisabled = false;
    for (const { id } of named) {
      if (await this.#client.disable(id, signal)) isDisabled = true;
    }
    if (isDisabled) await new Promise((resolve) => setTimeout(resolve, settleMs));
    const busy = await this.#busy(named, signal);
    for (const { id } of named) {
      if (!busy.has(id)) await this.#client.deleteRunner(id, signal);
    }
    return busy.size === 0 ? "gone" : "busy";
  }

  async #busy(runners: readonly RunnerAnswer[], signal: AbortSignal): Promise<Set<number>> {
    const jobs = await this.#client.jobs(["in_progress"], signal);
    const working = new Set(jobs.map(({ runner_id: id }) => id));
    return new Set(runners.map(({ id }) => id).filter((id) => working.has(id)));
  }
}
