/** Wakes those who wait for something to be so; who rings need not know what. */
export class Bell {
  readonly #waiting = new Set<() => void>();

  ring(): void {
    for (const look of this.#waiting) look();
  }

  /** Until `isDone`, or `waitMs` have passed, or `signal` is aborted: who asks looks which. */
  until(isDone: () => boolean, waitMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", leave);
        this.#waiting.delete(look);
        resolve();
      };
      const look = (): void => {
        if (isDone()) leave();
      };
      const timer = setTimeout(leave, waitMs);
      signal.addEventListener("abort", leave, { once: true });
      this.#waiting.add(look);
      if (signal.aborted) leave();
      else look();
    });
  }
}
