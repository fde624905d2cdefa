import type { Runner } from "../domain/runner.ts";
import { findGuest, handOver, hasWaiting, type HandOver } from "../store/guest.ts";
import type { Store } from "../store/store.ts";
import type { Clock } from "./clock.ts";
import type { Topics } from "./desk-topics.ts";

interface Waiter {
  readonly runner: Runner;
  readonly settle: (result: HandOver) => void;
  readonly fail: (error: unknown) => void;
}

/** The waiters of one pool, by label class, first come first served. */
interface PoolLine {
  readonly pool: string;
  readonly classes: Map<string, Set<Waiter>>;
  readonly stopListening: () => void;
  isServing: boolean;
  hasNews: boolean;
}

/**
 * Machines that wait for work. A change in a pool asks the store once a class, and writes once a job,
 * however many machines wait.
 */
export class WorkLine {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #topics: Topics;
  readonly #pools = new Map<string, PoolLine>();

  constructor(store: Store, clock: Clock, topics: Topics) {
    this.#store = store;
    this.#clock = clock;
    this.#topics = topics;
  }

  /** What becomes of this machine, at the latest after `waitMs`. */
  async next(runner: Runner, waitMs: number, signal: AbortSignal): Promise<HandOver> {
    if (runner.job !== null || (await this.#isOver(runner)) || (await this.#hasWork(runner))) {
      const now = await this.#store.write((tx) => handOver(tx, runner.name));
      if (now.kind !== "none") return now;
    }
    return waitMs <= 0 ? { kind: "none" } : this.#wait(runner, waitMs, signal);
  }

  #wait(runner: Runner, waitMs: number, signal: AbortSignal): Promise<HandOver> {
    return new Promise((resolve, reject) => {
      const leave = (): void => settle({ kind: "none" });
      const settle = (result: HandOver): void => {
        end();
        resolve(result);
      };
      const fail = (error: unknown): void => {
        end();
        reject(error instanceof Error ? error : new Error(String(error)));
      };
      const waiter: Waiter = { runner, settle, fail };
      const unlisten = this.#topics.on(`runner/${runner.name}`, () => void this.#recheck(waiter));
      const cancelTimer = this.#clock.after(waitMs, leave);
      const end = (): void => {
        unlisten();
        cancelTimer();
        signal.removeEventListener("abort", leave);
        this.#remove(waiter);
      };
      const line = this.#add(waiter);
      if (signal.aborted) return leave();
      signal.addEventListener("abort", leave, { once: true });
      // A job may have come between our look and our place in the line.
      void this.#serve(line);
    });
  }

  /** Nobody needs it any more, or its job was given to it by another request. */
  async #recheck(waiter: Waiter): Promise<void> {
    try {
      if (!(await this.#isOver(waiter.runner))) return;
      waiter.settle(await this.#store.write((tx) => handOver(tx, waiter.runner.name)));
    } catch (error) {
      waiter.fail(error);
    }
  }

  async #isOver(runner: Runner): Promise<boolean> {
    const state = (await findGuest(this.#store.db, runner.name))?.runner.state;
    return state !== "up";
  }

  #hasWork(runner: Runner): Promise<boolean> {
    return hasWaiting(this.#store.db, runner);
  }

  async #serve(line: PoolLine): Promise<void> {
    line.hasNews = true;
    if (line.isServing) return;
    line.isServing = true;
    try {
      while (line.hasNews) {
        line.hasNews = false;
        for (const waiters of line.classes.values()) await this.#serveClass(waiters);
      }
    } finally {
      line.isServing = false;
    }
  }

  async #serveClass(waiters: Set<Waiter>): Promise<void> {
    for (const waiter of waiters) {
      try {
        if (!(await this.#hasWork(waiter.runner))) return;
        const result = await this.#store.write((tx) => handOver(tx, waiter.runner.name));
        // Another replica is quicker: its commit wakes us should anything be left.
        if (result.kind === "none") return;
        waiter.settle(result);
      } catch (error) {
        waiter.fail(error);
      }
    }
  }

  #add(waiter: Waiter): PoolLine {
    const { pool, labelClass } = waiter.runner;
    let line = this.#pools.get(pool);
    if (line === undefined) {
      const created: PoolLine = {
        pool,
        classes: new Map(),
        stopListening: this.#topics.on(`pool/${pool}`, () => void this.#serve(created)),
        isServing: false,
        hasNews: false,
      };
      line = created;
      this.#pools.set(pool, line);
    }
    const waiters = line.classes.get(labelClass) ?? new Set();
    line.classes.set(labelClass, waiters);
    waiters.add(waiter);
    return line;
  }

  #remove(waiter: Waiter): void {
    const { pool, labelClass } = waiter.runner;
    const line = this.#pools.get(pool);
    const waiters = line?.classes.get(labelClass);
    if (line === undefined || waiters === undefined) return;
    waiters.delete(waiter);
    if (waiters.size === 0) line.classes.delete(labelClass);
    if (line.classes.size > 0) return;
    line.stopListening();
    this.#pools.delete(pool);
  }
}
