import type { Clock } from "./clock.ts";

/**
 * Runs `round` whenever it is woken, one at a time, and at the latest when the last round asked to
 * be called again. Any number of wake-ups during a round make one more round. A round that throws
 * is reported and repeated after `retryMs`: a loop never dies.
 */
export class Loop {
  readonly #clock: Clock;
  readonly #round: (signal: AbortSignal) => Promise<number>;
  readonly #failed: (error: unknown) => void;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #again = false;
  #cancelTimer: () => void = () => {};

  /** `round` resolves to the milliseconds until it wants to run again. */
  constructor(
    clock: Clock,
    round: (signal: AbortSignal) => Promise<number>,
    failed: (error: unknown) => void,
  ) {
    this.#clock = clock;
    this.#round = round;
    this.#failed = failed;
  }

  wake(): void {
    if (this.#stopping.signal.aborted) return;
    if (this.#running !== undefined) {
      this.#again = true;
      return;
    }
    this.#cancelTimer();
    this.#running = this.#run();
  }

  /** Aborts the present round's waits and resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error("stopping"));
    this.#cancelTimer();
    await this.#running;
  }

  async #run(): Promise<void> {
    let waitMs: number;
    do {
      this.#again = false;
      waitMs = await this.#once();
    } while (this.#again && !this.#stopping.signal.aborted);
    this.#running = undefined;
    if (this.#stopping.signal.aborted) return;
    this.#cancelTimer = this.#clock.after(waitMs, () => this.wake());
  }

  async #once(): Promise<number> {
    try {
      return await this.#round(this.#stopping.signal);
    } catch (error) {
      // Stopping interrupts waits on purpose.
      if (!this.#stopping.signal.aborted) this.#failed(error);
      // A wake-up in a failing round must not spin.
      this.#again = false;
      return retryMs;
    }
  }
}

const retryMs = 1000;
