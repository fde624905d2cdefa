import type { Clock } from "../fleet/clock.ts";

/**
 * One life of the manager's process, from start to kill -9. Everything that reaches outside it (a
 * statement, a call, an answer, a timer) is a step, and it may die before any of them. What it then
 * still awaits never comes.
 */
export class Life {
  readonly generation: number;
  /** Its clock: timers of the dead never fire. */
  readonly clock: Clock;
  readonly #dies: (steps: number) => boolean;
  readonly #buried: () => void;
  #isDead = false;
  #steps = 0;

  /** `dies` says whether it ends before its nth step; `buried` is called once it has. */
  constructor(
    generation: number,
    clock: Clock,
    dies: (steps: number) => boolean,
    buried: () => void,
  ) {
    this.generation = generation;
    this.#dies = dies;
    this.#buried = buried;
    this.clock = {
      now: clock.now,
      after: (ms, fn) => clock.after(ms, () => void (this.step() && fn())),
    };
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  get steps(): number {
    return this.#steps;
  }

  /** Takes a step. False: it is dead, perhaps since just now, and must not go on. */
  step(): boolean {
    if (this.#isDead) return false;
    if (this.#dies(++this.#steps)) this.end();
    return !this.#isDead;
  }

  end(): void {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#buried();
  }
}

/** What the dead wait for. */
export function never<T>(): Promise<T> {
  return new Promise<T>(() => {});
}
