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
 * The time of day that never jumps: the system's own at the start, and from then on what has truly
 * passed. Every stamp and every deadline that the store keeps is of this clock (boot, idle and job
 * deadlines, retries, back-offs, leases, sightings), so that setting the system's clock neither ends
 * a machine early nor holds one up; waits within the process are timers, which nobody sets. What is
 * kept on disk is carried over the next start by `keepTime`.
 */
export class SteadyClock implements Clock {
  readonly #wall: () => number;
  readonly #elapsed: () => number;
  #offset: number;

  /** Both in ms: the system's clock, and one that nobody can set. */
  constructor(wall: () => number = Date.now, elapsed: () => number = systemElapsed) {
    this.#wall = wall;
    this.#elapsed = elapsed;
    this.#offset = wall() - elapsed();
  }

  now = (): number => Math.round(this.#elapsed() + this.#offset);
  elapsed = (): number => this.#elapsed();
  after = systemClock.after;

  /** How far the system's clock was set forwards (or, below 0, backwards) since the start, ms. */
  setByMs(): number {
    return Math.round(this.#wall() - this.now());
  }

  /** Takes over the system's clock: only while nothing depends on what has passed. */
  follow(): void {
    this.#offset = this.#wall() - this.#elapsed();
  }
}

/** Since the system's start, the same for every process, and still while it sleeps (Linux, macOS). */
export function systemElapsed(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

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
  // What throws before it first waits has failed like any other: our timer and ear must go too.
  const running = (async () => work(controller.signal))();
  running.catch(() => {});
  aborted.catch(() => {});
  try {
    return await Promise.race([running, aborted]);
  } finally {
    cancel();
    parent.removeEventListener("abort", parentStops);
  }
}
