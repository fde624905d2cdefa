import { retryDelayMs } from "../domain/lifecycle.ts";
import type { Forge } from "../forges/forge.ts";
import type { Intake } from "./api.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import type { HeldLease } from "./tenure.ts";

export interface ListeningParts {
  readonly intake: Intake;
  readonly clock: Clock;
  readonly chance: () => number;
  readonly log: Log;
}

/** A line that held for so long was a good one: what ends it is no repeated failure. */
const soundMs = 5 * 60_000;

/**
 * Keeps a forge's line open beside the rounds, for as long as we hold the forge's lease: the holder
 * alone listens. A line that fails is opened again after a while, longer each time.
 */
export class Listening {
  readonly #forge: Forge;
  readonly #parts: ListeningParts;
  #underWay: Promise<void> | null = null;
  #stop = new AbortController();
  #failures = 0;
  #againAt = 0;

  constructor(forge: Forge, parts: ListeningParts) {
    this.#forge = forge;
    this.#parts = parts;
  }

  /** Opens the line unless it is open, or failed just now. `signal`: the lease may pass on. */
  go(lease: HeldLease, signal: AbortSignal): void {
    if (this.#forge.listen === undefined || this.#underWay !== null || signal.aborted) return;
    if (this.#parts.clock.now() < this.#againAt) return;
    this.#stop = new AbortController();
    const until = AbortSignal.any([signal, this.#stop.signal]);
    this.#underWay = this.#listen(lease, until).finally(() => (this.#underWay = null));
  }

  /** Resolves when the line is closed. */
  async settle(): Promise<void> {
    this.#stop.abort();
    await this.#underWay;
  }

  async #listen(lease: HeldLease, signal: AbortSignal): Promise<void> {
    const { intake, clock, chance, log } = this.#parts;
    const { name } = this.#forge;
    const openedAt = clock.now();
    try {
      await this.#forge.listen?.(async (sightings) => {
        lease.check();
        await intake.record(sightings);
      }, signal);
    } catch (error) {
      if (signal.aborted) return;
      const failure = error instanceof Error ? error.message : String(error);
      if (clock.now() - openedAt > soundMs) this.#failures = 0;
      const waitMs = retryDelayMs(++this.#failures, chance());
      this.#againAt = clock.now() + waitMs;
      log.warn({ forge: name, waitMs }, `its line is closed: ${failure}`);
    }
  }
}
