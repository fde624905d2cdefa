/** How long a place that had no capacity is left alone: this, then twice that, to the maximum. */
const emptyFirstMs = 60_000;
const emptyMaxMs = 10 * 60_000;
/** Spot that is taken back so often within the window is not bought for the rest. */
const interruptionsMax = 2;
const interruptionWindowMs = 15 * 60_000;
const interruptionRestMs = 30 * 60_000;

interface Place {
  closedUntil: number;
  empties: number;
  interruptedAt: number[];
}

/**
 * Remembers where there was nothing to be had: a place is a market, a type and a subnet, so there
 * are never more than the configuration names. What it knows is lost with the process, and learnt
 * again at the price of a few refused calls.
 */
export class Breaker {
  readonly #now: () => number;
  readonly #places = new Map<string, Place>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** When the place may be tried again, ms since the epoch; 0: now. */
  closedUntil(key: string): number {
    const until = this.#places.get(key)?.closedUntil ?? 0;
    return until > this.#now() ? until : 0;
  }

  empty(key: string): void {
    const place = this.#at(key);
    const restMs = Math.min(emptyMaxMs, emptyFirstMs * 2 ** place.empties);
    place.empties = Math.min(place.empties + 1, 10);
    place.closedUntil = Math.max(place.closedUntil, this.#now() + restMs);
  }

  /** A machine was made there. */
  fine(key: string): void {
    const place = this.#places.get(key);
    if (place !== undefined) place.empties = 0;
  }

  /** A spot machine there was taken back. */
  interrupted(key: string): void {
    const place = this.#at(key);
    const now = this.#now();
    const recent = place.interruptedAt.filter((at) => now - at < interruptionWindowMs);
    place.interruptedAt = [...recent, now].slice(-interruptionsMax);
    if (place.interruptedAt.length < interruptionsMax) return;
    place.closedUntil = Math.max(place.closedUntil, now + interruptionRestMs);
  }

  #at(key: string): Place {
    const known = this.#places.get(key);
    if (known !== undefined) return known;
    const place = { closedUntil: 0, empties: 0, interruptedAt: [] };
    this.#places.set(key, place);
    return place;
  }
}
