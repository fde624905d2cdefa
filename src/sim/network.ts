import type { SimClock } from "./clock.ts";
import type { Life } from "./life.ts";

export interface Trip {
  readonly clock: SimClock;
  readonly life: Life;
  readonly signal: AbortSignal;
  readonly answerMs: number;
  /** What the caller gets when it gives up. */
  readonly givenUp: () => Error;
}

/**
 * A call over a network: its way there, its effect, and its way back. The effect happens even when
 * the caller dies or gives up meanwhile; `effect` may throw what the other side answers.
 */
export function call<T>(trip: Trip, effect: () => T): Promise<T> {
  const { clock, life, signal, answerMs, givenUp } = trip;
  return new Promise<T>((resolve, reject) => {
    if (!life.step()) return;
    const stop = (): void => reject(givenUp());
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    clock.after(answerMs / 2, () => {
      const answer = outcome(effect);
      clock.after(answerMs / 2, () => {
        signal.removeEventListener("abort", stop);
        if (!life.step()) return;
        if ("error" in answer) reject(answer.error);
        else resolve(answer.value);
      });
    });
  });
}

/** A call that is never answered, with its effect or without. */
export function unanswered<T>(trip: Trip, effect: () => void): Promise<T> {
  const { clock, life, signal, answerMs, givenUp } = trip;
  return new Promise<T>((_, reject) => {
    if (!life.step()) return;
    clock.after(answerMs / 2, effect);
    const stop = (): void => reject(givenUp());
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

function outcome<T>(effect: () => T): { readonly value: T } | { readonly error: unknown } {
  try {
    return { value: effect() };
  } catch (error) {
    return { error };
  }
}
