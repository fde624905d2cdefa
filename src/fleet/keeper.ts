import { releaseLease, takeLease, type Lease } from "../store/leases.ts";
import type { Store } from "../store/store.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";
import type { Spread } from "./spread.ts";
import { Tenure, type HeldLease } from "./tenure.ts";

export interface KeeperParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** This replica's name in the leases; new at each start, so that a restart takes over cleanly. */
  readonly holder: string;
  readonly leaseMs: number;
  readonly spread: Spread;
}

/** A duty for one resource, done by whichever replica holds its lease. */
export interface Duty {
  readonly resource: string;
  /** The slow tick: rounds are at most this far apart, whatever was or was not heard. */
  readonly tickMs: number;
  /** Where it can be done, when not everywhere: a replica elsewhere waits until nobody is there. */
  readonly place?: Place | undefined;
  /** Called once when the lease has come to us, before the first round. */
  taken?(lease: Lease): Promise<void>;
  /**
   * Resolves to when it wants to be called next (ms since the epoch), or Infinity. `signal` aborts
   * when we stop, and when the lease may pass to another.
   */
  round(lease: HeldLease, signal: AbortSignal): Promise<number>;
  /** Resolves when nothing that rounds began is under way any more. */
  settle?(): Promise<void>;
}

/** What can be seen only from one place, like the containers of a host. */
export interface Place {
  readonly resource: string;
  /** The place's own name, the same for all replicas there. */
  readonly at: string;
}

/** How long nobody may be at a place until another replica takes what is there for lost. */
const placeMs = 10 * 60_000;

/** Holds the lease for a duty while it can and should, and runs its rounds only then. */
export class Keeper {
  readonly #parts: KeeperParts;
  readonly #duty: Duty;
  readonly #loop: Loop;
  #tenure: Tenure | null = null;
  /** When the duty wants its next round; earlier only when woken. */
  #roundAt = 0;

  constructor(parts: KeeperParts, duty: Duty) {
    this.#parts = parts;
    this.#duty = duty;
    this.#loop = new Loop(
      parts.clock,
      (stopping) => this.#round(stopping),
      (error) => {
        // Whether we still hold the lease is open: ask again, then try the round again.
        this.#tenure?.doubt();
        this.#roundAt = 0;
        parts.log.warn({ resource: duty.resource, error: String(error) }, "a round failed");
      },
    );
  }

  /** Something changed: a round now. Nothing to a replica that does not hold the lease. */
  wake(): void {
    this.#roundAt = 0;
    if (this.#tenure !== null) this.#loop.wake();
  }

  /** The leases have changed: see whether to take or to hand over this one. */
  look(): void {
    this.#loop.wake();
  }

  /** Ends the present round and gives the lease back. */
  async stop(): Promise<void> {
    await this.#loop.stop();
    if (this.#tenure !== null) await this.#leave(this.#tenure);
  }

  async #round(stopping: AbortSignal): Promise<number> {
    const { clock, spread, log } = this.#parts;
    const { resource, tickMs, place } = this.#duty;
    const tenure = await this.#hold(stopping);
    if (tenure === null) return tickMs;
    const better = place === undefined ? spread.betterHolder(resource) : null;
    if (better !== null) {
      log.info({ resource, to: better }, "hands the lease over");
      spread.handedOver(resource, better);
      await this.#leave(tenure);
      return tickMs;
    }
    if (clock.now() >= this.#roundAt) {
      // Before the round: what wakes us during it makes another.
      this.#roundAt = Infinity;
      const next = await this.#duty.round(tenure, tenure.signal);
      this.#roundAt = Math.min(this.#roundAt, next, clock.now() + tickMs);
    }
    return Math.max(0, Math.min(this.#roundAt - clock.now(), tenure.renewInMs()));
  }

  /** Our tenure, renewed in good time; or a new one if the lease is to be had. */
  async #hold(stopping: AbortSignal): Promise<Tenure | null> {
    const { store, clock, leaseMs, log, spread } = this.#parts;
    const { resource } = this.#duty;
    const present = this.#tenure;
    if (present === null ? !spread.mayTake(resource) : present.renewInMs() > 0) return present;
    const asked = Tenure.moment(clock);
    const lease = await store.write((tx) => this.#take(tx));
    if (present !== null && lease?.fence === present.fence && !present.signal.aborted) {
      present.renew(asked);
      return present;
    }
    if (present !== null) {
      present.end();
      log.warn({ resource }, "lost the lease");
    }
    this.#tenure = lease === null ? null : new Tenure(lease, { clock, leaseMs, stopping }, asked);
    if (lease === null) return null;
    this.#roundAt = 0;
    // On a folder of its own there is nobody else who could.
    if (store.engine === "postgres") log.info({ resource, fence: lease.fence }, "holds the lease");
    await this.#duty.taken?.(lease);
    return this.#tenure;
  }

  async #take(tx: Parameters<typeof takeLease>[0]): Promise<Lease | null> {
    const { holder, leaseMs } = this.#parts;
    const { resource, place } = this.#duty;
    // A lease under whose cover its place is another's would be worth nothing.
    if (place !== undefined && !(await takeLease(tx, place.resource, place.at, placeMs)))
      return null;
    return takeLease(tx, resource, holder, leaseMs);
  }

  /** Lets what is under way end, within the lease; what does not is given up. */
  async #leave(tenure: Tenure): Promise<void> {
    const { store, clock, leaseMs } = this.#parts;
    this.#tenure = null;
    if (!tenure.signal.aborted) {
      const patience = Promise.withResolvers<void>();
      const cancel = clock.after(leaseMs / 3, patience.resolve);
      await Promise.race([this.#duty.settle?.(), patience.promise]);
      cancel();
    }
    tenure.end();
    await this.#duty.settle?.();
    // Not given back, it runs out by itself.
    await store.write((tx) => releaseLease(tx, tenure)).catch(() => {});
  }
}
