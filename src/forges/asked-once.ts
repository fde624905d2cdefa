import { BoundedMap } from "./bounded-map.ts";

/**
 * Answers that never change, each asked for once, also by those that ask while the first still
 * waits. A failure is not kept.
 */
export class AskedOnce<K, V> {
  readonly #answers: BoundedMap<K, V>;
  readonly #underWay = new Map<K, Promise<V>>();

  /** The oldest are forgotten beyond `max`. */
  constructor(max: number) {
    this.#answers = new BoundedMap(max);
  }

  async get(key: K, ask: () => Promise<V>): Promise<V> {
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    const underWay = this.#underWay.get(key) ?? ask();
    this.#underWay.set(key, underWay);
    try {
      const answer = await underWay;
      this.#answers.set(key, answer);
      return answer;
    } finally {
      this.#underWay.delete(key);
    }
  }
}
