import type { Phase } from "./machine.ts";

/** What a machine's time is spent on. */
export const uses = ["booting", "busy", "idle", "ending"] as const;
export type Use = (typeof uses)[number];

/** Sums by interval of time, as many as it takes. */
export class Ledger {
  readonly from: number;
  readonly stepMs: number;
  /** Machine time by interval, ms. */
  readonly time: Readonly<Record<Use, number[]>> = { booting: [], busy: [], idle: [], ending: [] };
  /** The most that waited in an interval. */
  readonly queue: number[] = [];
  #waiting = 0;
  alive = 0;
  peakMachines = 0;
  peakQueue = 0;

  constructor(from: number, stepMs: number) {
    this.from = from;
    this.stepMs = stepMs;
  }

  /** A machine was in a phase from `from` to `until`. */
  spend(phase: Exclude<Phase, "gone">, from: number, until: number): void {
    const use = phase === "partly" || phase === "full" ? "busy" : phase;
    const sums = this.time[use];
    let start = from;
    let step = Math.floor((from - this.from) / this.stepMs);
    for (; start < until; step++) {
      const end = Math.min(until, this.from + (step + 1) * this.stepMs);
      while (sums.length <= step) sums.push(0);
      sums[step]! += end - start;
      start = end;
    }
  }

  /** So many wait from now on. */
  wait(now: number, waiting: number): void {
    const step = Math.floor((now - this.from) / this.stepMs);
    // Intervals in which nothing happened: what waited at their beginning still did.
    while (this.queue.length <= step) this.queue.push(this.#waiting);
    this.queue[step] = Math.max(this.queue[step]!, waiting);
    this.#waiting = waiting;
    this.peakQueue = Math.max(this.peakQueue, waiting);
  }

  changeAlive(by: number): void {
    this.alive += by;
    this.peakMachines = Math.max(this.peakMachines, this.alive);
  }
}
