import type { Decision, PolicyAction } from "../policy.ts";

/* What the models of others share: loops that tick on a grid, and jobs in the order of queueing. */

/** The first moment after `now` (ms) at which a loop of this period ticks; loops tick at its multiples. */
export function tickAfter(now: number, periodMs: number): number {
  return (Math.floor(now / periodMs) + 1) * periodMs;
}

export function isTick(now: number, periodMs: number): boolean {
  return now % periodMs === 0;
}

export function nothing(nextAt: number): Decision {
  return { actions: [], nextAt };
}

/** Starts machines that take any job of the pool; none for none. */
export function start(count: number): PolicyAction[] {
  return count > 0 ? [{ kind: "start", count, labelClass: null }] : [];
}

/** Jobs that are looked at together, at `dueAt` (ms). */
export interface Batch {
  count: number;
  dueAt: number;
}

/**
 * Jobs of a pool in the order of queueing, as far as a model that is only told counts can know them:
 * forges start the longest waiting first.
 */
export class Batches {
  #batches: Batch[] = [];

  get isEmpty(): boolean {
    return this.#batches.length === 0;
  }

  /** When the next of them is due; Infinity: there is none. */
  get nextDueAt(): number {
    return this.#batches.reduce((least, { dueAt }) => Math.min(least, dueAt), Infinity);
  }

  add(count: number, dueAt: number): void {
    if (count <= 0) return;
    const last = this.#batches.at(-1);
    if (last?.dueAt === dueAt) last.count += count;
    else this.#batches.push({ count, dueAt });
  }

  /** The first `count` are no longer there. */
  drop(count: number): void {
    let left = count;
    let whole = 0;
    for (const batch of this.#batches) {
      if (batch.count > left) {
        batch.count -= left;
        break;
      }
      left -= batch.count;
      whole++;
    }
    this.#batches.splice(0, whole);
  }

  /**
   * Each due one in order: `take` says of its jobs how many were served, when those are due again
   * (Infinity: never, they leave), and when the others are.
   */
  due(
    now: number,
    take: (count: number) => { served: number; servedAgainAt: number; othersAt: number },
  ): void {
    const before = this.#batches;
    this.#batches = [];
    for (const { count, dueAt } of before) {
      if (dueAt > now) {
        this.add(count, dueAt);
        continue;
      }
      const { served, servedAgainAt, othersAt } = take(count);
      if (servedAgainAt < Infinity) this.add(served, servedAgainAt);
      if (othersAt < Infinity) this.add(count - served, othersAt);
    }
  }
}
