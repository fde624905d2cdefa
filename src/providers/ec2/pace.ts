import { setTimeout as sleep } from "node:timers/promises";
import { ProviderError } from "../../domain/errors.ts";

const waitingMax = 10_000;

/** Lets so many calls a second begin, one after the other, in the order they came. */
export class Pace {
  readonly #intervalMs: number;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;

  constructor(perSecond: number) {
    this.#intervalMs = 1000 / perSecond;
  }

  /** Resolves when the caller may call. Throws `throttled` when too many wait already. */
  async take(): Promise<void> {
    if (this.#waiting >= waitingMax) {
      throw new ProviderError("throttled", `${waitingMax} calls wait for their turn already`);
    }
    const turn = this.#last;
    this.#last = turn.then(() => sleep(this.#intervalMs));
    this.#waiting += 1;
    await turn;
    this.#waiting -= 1;
  }

  /** Nobody's turn comes for so long: EC2 said that it was too much. */
  pause(ms: number): void {
    this.#last = this.#last.then(() => sleep(ms));
  }
}

/**
 * Gathers what is asked while a call waits for its turn, and asks it in one. The answers come by
 * key; the failure of the call is that of all it was for.
 */
export class Batch<K, V> {
  readonly #most: number;
  readonly #take: () => Promise<void>;
  readonly #run: (keys: readonly K[]) => Promise<(key: K) => V>;
  readonly #waiting = new Map<K, PromiseWithResolvers<V>>();
  #isGoing = false;

  constructor(
    most: number,
    take: () => Promise<void>,
    run: (keys: readonly K[]) => Promise<(key: K) => V>,
  ) {
    this.#most = most;
    this.#take = take;
    this.#run = run;
  }

  ask(key: K): Promise<V> {
    const waiting = this.#waiting.get(key) ?? Promise.withResolvers<V>();
    this.#waiting.set(key, waiting);
    void this.#go();
    return waiting.promise;
  }

  async #go(): Promise<void> {
    if (this.#isGoing) return;
    this.#isGoing = true;
    while (this.#waiting.size > 0) await this.#round();
    this.#isGoing = false;
  }

  /** One call at a time: where answers are slow, fewer calls carry more. */
  async #round(): Promise<void> {
    let taken: [K, PromiseWithResolvers<V>][] = [];
    const take = (): void => {
      taken = [...this.#waiting].slice(0, this.#most);
      for (const [key] of taken) this.#waiting.delete(key);
    };
    try {
      await this.#take();
      take();
      const answer = await this.#run(taken.map(([key]) => key));
      for (const [key, { resolve }] of taken) resolve(answer(key));
    } catch (error) {
      if (taken.length === 0) take();
      for (const [, { reject }] of taken) reject(error);
    }
  }
}
