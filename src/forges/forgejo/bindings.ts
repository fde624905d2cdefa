import { BoundedMap } from "../bounded-map.ts";
import type { RunnerAnswer } from "./answers.ts";

interface Binding {
  readonly runner: string;
  readonly boundAt: number;
}

const bindingsMax = 20_000;
/** By then a runner that is bound to a job has asked for it; one that has not is not alive. */
const takesMs = 120_000;
const mark = "mayfly: for the job with handle ";

/**
 * Which runner is registered for which job: Forgejo lets a runner ask for one job by its handle. It
 * also stands in the registration's description, so that it outlives the manager.
 */
export class Bindings {
  readonly #now: () => number;
  readonly #byHandle = new BoundedMap<string, Binding>(bindingsMax);

  constructor(now: () => number) {
    this.#now = now;
  }

  bind(handle: string, runner: string): void {
    this.#byHandle.set(handle, { runner, boundAt: this.#now() });
  }

  release(handle: string): void {
    this.#byHandle.delete(handle);
  }

  /** Whether another runner is about to take the job. */
  isTakenBy(handle: string, other: string): boolean {
    const binding = this.#byHandle.get(handle);
    return binding !== undefined && binding.runner !== other && this.isFresh(handle);
  }

  isFresh(handle: string): boolean {
    const binding = this.#byHandle.get(handle);
    return binding !== undefined && this.#now() - binding.boundAt < takesMs;
  }

  runnerOf(handle: string): string | null {
    return this.#byHandle.get(handle)?.runner ?? null;
  }

  /** Takes over what registrations say, where nothing is known: a manager was started anew. */
  learn(runners: readonly RunnerAnswer[]): void {
    for (const { name, description } of runners) {
      const handle = handleIn(description);
      if (handle !== null && this.#byHandle.get(handle) === undefined) this.bind(handle, name);
    }
  }
}

export function descriptionFor(handle: string): string {
  return `${mark}${handle}`;
}

export function handleIn(description: string): string | null {
  return description.startsWith(mark) ? description.slice(mark.length) : null;
}
