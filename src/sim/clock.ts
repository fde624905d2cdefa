import type { Clock } from "../fleet/clock.ts";

interface Timer {
  readonly at: number;
  /** Timers of one moment fire in the order they were set. */
  readonly order: number;
  fn: (() => void) | null;
}

/** Time that passes only when `next` is called: from one timer to the one after it. */
export class SimClock implements Clock {
  #now: number;
  #order = 0;
  /** A binary heap by moment and order. */
  readonly #timers: Timer[] = [];

  constructor(startsAt: number) {
    this.#now = startsAt;
  }

  now = (): number => this.#now;

  after(ms: number, fn: () => void): () => void {
    const timer: Timer = { at: this.#now + Math.max(0, ms), order: this.#order++, fn };
    this.#push(timer);
    return () => {
      timer.fn = null;
    };
  }

  /** Resolves once `ms` have passed. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve));
  }

  /** Moves to the next timer and fires it. False: there is none. */
  next(): boolean {
    for (;;) {
      const timer = this.#pop();
      if (timer === undefined) return false;
      if (timer.fn === null) continue;
      this.#now = timer.at;
      timer.fn();
      return true;
    }
  }

  #push(timer: Timer): void {
    const heap = this.#timers;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isEarlier(timer, heap[parent] as Timer)) break;
      heap[at] = heap[parent] as Timer;
      at = parent;
    }
    heap[at] = timer;
  }

  #pop(): Timer | undefined {
    const heap = this.#timers;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = child + 1;
      if (right < heap.length && isEarlier(heap[right] as Timer, heap[child] as Timer))
        child = right;
      if (!isEarlier(heap[child] as Timer, last)) break;
      heap[at] = heap[child] as Timer;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isEarlier(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
