import type { ProviderContext } from "../provider.ts";
import type { Container, Containers } from "./containers.ts";

const everyMs = 30_000;
const patienceMs = 60_000;

/**
 * Where the store cannot limit a machine's disk, we look at what each has written, half a minute
 * apart, and end those that wrote more than they were lent. It only looks while we are asked for
 * lists: without a manager, the limit on a single file and the deadline are all there is.
 */
export class DiskWatch {
  readonly #containers: Containers;
  readonly #context: ProviderContext;
  readonly #stop = new AbortController();
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> = Promise.resolve();

  constructor(containers: Containers, context: ProviderContext) {
    this.#containers = containers;
    this.#context = context;
  }

  /** Looks, in the background, if any machine runs and it is time again. */
  look(containers: readonly Container[]): void {
    const now = this.#context.now();
    if (now - this.#lookedAt < everyMs || this.#stop.signal.aborted) return;
    if (!containers.some(({ state }) => state === "running")) return;
    this.#lookedAt = now;
    this.#looking = this.#looking.then(() => this.#round()).catch(() => {});
  }

  /** Ends the look under way, and waits for that. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#looking;
  }

  async #round(): Promise<void> {
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(patienceMs)]);
    for (const container of await this.#containers.all(signal, true)) {
      const { name, state, writtenBytes, diskBytes } = container;
      if (state !== "running" || writtenBytes === null || diskBytes === null) continue;
      if (writtenBytes <= diskBytes) continue;
      const fields = { machine: name, writtenBytes, diskBytes };
      this.#context.log.warn(fields, "ended a machine that wrote more than its disk holds");
      await this.#containers.kill(container, signal);
    }
  }
}
