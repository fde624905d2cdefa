import { MayflyError } from "../domain/errors.ts";
import type { Lease } from "../store/leases.ts";
import type { Clock } from "./clock.ts";

/** A lease in hand. What acts outside of the store looks at it right before it does. */
export interface HeldLease extends Lease {
  /** Throws `conflict` when the lease may pass to another before a call begun now has arrived. */
  check(): void;
}

/** A moment on both clocks: one may be set, and the other stands still while a host sleeps. */
interface Moment {
  readonly now: number;
  readonly elapsed: number;
}

export interface TenureParts {
  readonly clock: Clock;
  readonly leaseMs: number;
  readonly stopping: AbortSignal;
}

/**
 * The time for which we hold a lease, by our own clocks, without asking anybody: a process that was
 * stopped finds out when it goes on. It is renewed after a third of the lease, acted under for two,
 * and the last third is left for what was sent at the end to arrive.
 */
export class Tenure implements HeldLease {
  readonly resource: string;
  readonly holder: string;
  readonly fence: number;
  /** Aborts when the lease may not be acted under any more, and when we stop. */
  readonly signal: AbortSignal;
  readonly #parts: TenureParts;
  readonly #over = new AbortController();
  #since: Moment;
  #isDoubted = false;
  #cancelTimer: () => void = () => {};

  static moment(clock: Clock): Moment {
    return { now: clock.now(), elapsed: clock.elapsed?.() ?? clock.now() };
  }

  /** `asked`: before the lease was asked for, since it was granted at some time after. */
  constructor({ resource, holder, fence }: Lease, parts: TenureParts, asked: Moment) {
    this.resource = resource;
    this.holder = holder;
    this.fence = fence;
    this.#parts = parts;
    this.signal = AbortSignal.any([parts.stopping, this.#over.signal]);
    this.#since = asked;
    this.renew(asked);
  }

  renew(asked: Moment): void {
    this.#since = asked;
    this.#isDoubted = false;
    this.#cancelTimer();
    if (this.#leftMs() <= 0) return this.end();
    this.#cancelTimer = this.#parts.clock.after(this.#leftMs(), () => this.end());
  }

  /** Milliseconds until it should be renewed; 0 when that is due. */
  renewInMs(): number {
    if (this.#isDoubted || this.signal.aborted) return 0;
    return Math.max(0, this.#parts.leaseMs / 3 - this.#ageMs());
  }

  /** Have it renewed before anything else. */
  doubt(): void {
    this.#isDoubted = true;
  }

  check(): void {
    // Timers run late in a process that was stopped: what counts is the clock.
    if (this.#leftMs() <= 0) this.end();
    if (!this.signal.aborted) return;
    throw new MayflyError("conflict", `the lease on ${this.resource} may have passed on`);
  }

  end(): void {
    this.#cancelTimer();
    this.#over.abort(new Error(`the lease on ${this.resource} may have passed on`));
  }

  #leftMs(): number {
    return (this.#parts.leaseMs * 2) / 3 - this.#ageMs();
  }

  #ageMs(): number {
    const { now, elapsed } = Tenure.moment(this.#parts.clock);
    return Math.max(now - this.#since.now, elapsed - this.#since.elapsed);
  }
}
