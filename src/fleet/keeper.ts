import { releaseLease, takeLease, type Lease } from "../store/leases.ts";
import type { Store } from "../store/store.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";

export interface KeeperParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** This replica's name in the leases; new at each start, so that a restart takes over cleanly. */
  readonly holder: string;
  readonly leaseMs: number;
}

/** A duty for one resource, done by whichever replica holds its lease. */
export interface Duty {
  readonly resource: string;
  /** The slow tick: rounds are at most this far apart, whatever was or was not heard. */
  readonly tickMs: number;
  /** Called once when the lease has come to us, before the first round. */
  taken?(lease: Lease): Promise<void>;
  /** Resolves to when it wants to be called next (ms since the epoch), or Infinity. */
  round(lease: Lease, signal: AbortSignal): Promise<number>;
}

/** Holds the lease for a duty while it can, and runs its rounds only then. */
export class Keeper {
  readonly #parts: KeeperParts;
  readonly #duty: Duty;
  readonly #loop: Loop;
  #lease: Lease | null = null;
  #renewedAt = 0;
  /** When the duty wants its next round; earlier only when woken. */
  #roundAt = 0;

  constructor(parts: KeeperParts, duty: Duty) {
    this.#parts = parts;
    this.#duty = duty;
    this.#loop = new Loop(
      parts.clock,
      (signal) => this.#round(signal),
      (error) => {
        // Whether we still hold the lease is open: ask again, then try the round again.
        this.#renewedAt = 0;
        this.#roundAt = 0;
        parts.log.warn({ resource: duty.resource, error: String(error) }, "a round failed");
      },
    );
  }

  get isHolder(): boolean {
    return this.#lease !== null;
  }

  /** Something changed: a round now. */
  wake(): void {
    this.#roundAt = 0;
    this.#loop.wake();
  }

  /** Ends the present round and gives the lease back. */
  async stop(): Promise<void> {
    await this.#loop.stop();
    const lease = this.#lease;
    this.#lease = null;
    // Not given back, it runs out by itself.
    if (lease !== null)
      await this.#parts.store.write((tx) => releaseLease(tx, lease)).catch(() => {});
  }

  async #round(signal: AbortSignal): Promise<number> {
    const { clock, leaseMs } = this.#parts;
    const lease = await this.#hold();
    if (lease === null) return Math.min(this.#duty.tickMs, leaseMs / 2);
    if (clock.now() >= this.#roundAt) {
      // Before the round: what wakes us during it makes another.
      this.#roundAt = Infinity;
      const next = await this.#duty.round(lease, signal);
      this.#roundAt = Math.min(this.#roundAt, next, clock.now() + this.#duty.tickMs);
    }
    const renewAt = this.#renewedAt + leaseMs / 3;
    return Math.max(0, Math.min(this.#roundAt, renewAt) - clock.now());
  }

  /** Renews in good time: a lease in its last two thirds is never acted under. */
  async #hold(): Promise<Lease | null> {
    const { store, clock, holder, leaseMs, log } = this.#parts;
    const now = clock.now();
    if (this.#lease !== null && now - this.#renewedAt < leaseMs / 3) return this.#lease;
    const { resource } = this.#duty;
    const lease = await store.write((tx) => takeLease(tx, resource, holder, leaseMs));
    this.#renewedAt = now;
    const isNew = lease !== null && lease.fence !== this.#lease?.fence;
    if (lease === null && this.#lease !== null) log.warn({ resource }, "lost the lease");
    this.#lease = lease;
    if (isNew) {
      this.#roundAt = 0;
      log.info({ resource, fence: lease.fence }, "holds the lease");
      await this.#duty.taken?.(lease);
    }
    return lease;
  }
}
