/** Time, handed in so that the simulator can run a year in a minute. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Milliseconds since some moment, by a clock that nobody sets. Absent, `now` must do. */
  elapsed?(): number;
  /** Calls `fn` once after `ms`; returns how to call it off. */
  after(ms: number, fn: () => void): () => void;
}

/** The longest delay a timer takes (2^31 - 1 ms); what is further away is looked at again then. */
const timerMaxMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, Math.min(Math.max(0, ms), timerMaxMs));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/**
 * Runs `work` for at most `ms`, or until `parent` aborts: then its signal aborts, and we go on
 * without it whether it heeds that or not. Rejects with the reason; what the work did is unknown.
 */
export async function within<T>(
  clock: Clock,
  ms: number,
  parent: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  parent.throwIfAborted();
  const controller = new AbortController();
  let reject: (error: unknown) => void = () => {};
  const aborted = new Promise<never>((_, refuse) => {
    reject = refuse;
  });
  const stop = (reason: unknown): void => {
    controller.abort(reason);
    reject(reason);
  };
  const parentStops = (): void => stop(parent.reason);
  const cancel = clock.after(ms, () =>
    stop(new Error(`no answer within ${Math.round(ms / 1000)} s`)),
  );
  parent.addEventListener("abort", parentStops, { once: true });
  const running = work(controller.signal);
  running.catch(() => {});
  try {
    return await Promise.race([running, aborted]);
  } finally {
    cancel();
    parent.removeEventListener("abort", parentStops);
  }
}
