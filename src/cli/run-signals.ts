import { exit } from "./exit.ts";

/** The first SIGINT, SIGTERM or SIGHUP ends the test, the second all at once, the third leaves. */
export class Signals {
  readonly #stop = new AbortController();
  readonly #leave = new AbortController();
  onFirst: () => void = () => {};

  constructor() {
    process.on("SIGINT", this.#hear).on("SIGTERM", this.#hear).on("SIGHUP", this.#hear);
  }

  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  get left(): AbortSignal {
    return this.#leave.signal;
  }

  stop(): void {
    this.#stop.abort();
  }

  close(): void {
    process.off("SIGINT", this.#hear).off("SIGTERM", this.#hear).off("SIGHUP", this.#hear);
  }

  readonly #hear = (): void => {
    // The next run removes what is left.
    if (this.#leave.signal.aborted) process.exit(exit.interrupted);
    if (this.#stop.signal.aborted) return this.#leave.abort();
    this.onFirst();
    this.#stop.abort();
  };
}
