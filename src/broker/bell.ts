import type { Clock } from "../fleet/clock.ts";
import type { Store } from "../store/store.ts";

/** Between two looks when nothing rings: news of another replica come so. */
const lookMs = 1_000;

/** Rings when the job of a loan has news, and each second. */
export class Bell {
  readonly #clock: Clock;
  readonly #stopListening: () => void;
  #ring: () => void = () => {};

  /** `isMeant`: of these topics. */
  constructor(store: Store, clock: Clock, isMeant: (topic: string) => boolean) {
    this.#clock = clock;
    this.#stopListening = store.onWake((topic) => {
      if (isMeant(topic)) this.#ring();
    });
  }

  /** The next ring from now on; also when `signal` aborts. */
  next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#clock.after(lookMs, () => this.#ring());
      this.#ring = () => {
        cancel();
        signal.removeEventListener("abort", this.#ring);
        this.#ring = () => {};
        resolve();
      };
      signal.addEventListener("abort", this.#ring, { once: true });
      if (signal.aborted) this.#ring();
    });
  }

  stop(): void {
    this.#stopListening();
    this.#ring();
  }
}
