import type { Store } from "../store/store.ts";

/** Who waits for which topic of the store, on one listener whatever their number. */
export class Topics {
  readonly #listeners = new Map<string, Set<() => void>>();
  readonly close: () => void;

  constructor(store: Pick<Store, "onWake">) {
    this.close = store.onWake((topic) => {
      for (const listener of this.#listeners.get(topic) ?? []) listener();
    });
  }

  /** Calls `listener` with every change under `topic`. Returns how to stop. */
  on(topic: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(topic);
    };
  }
}
