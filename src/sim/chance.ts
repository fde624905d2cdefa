/**
 * Chance from one seed. A question is asked of a place (`create/mf-a-1/2`), and its answer depends
 * on seed and place alone: so a run can be repeated with one fault or one job less, and everything
 * else still falls as it did. That is what makes a failing run shrink.
 */
export class Chance {
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed >>> 0;
  }

  /** Uniform in [0, 1), the same for the same place. */
  at(place: string): number {
    let hash = this.#seed ^ 0x9e3779b9;
    for (let i = 0; i < place.length; i++) {
      hash = Math.imul(hash ^ place.charCodeAt(i), 0x01000193);
      hash ^= hash >>> 15;
    }
    return mix(hash) / 2 ** 32;
  }

  /** A whole number in [from, to], the same for the same place. */
  between(place: string, from: number, to: number): number {
    return from + Math.floor(this.at(place) * (to - from + 1));
  }

  /** One of a list that is not empty, the same for the same place. */
  pick<T>(place: string, list: readonly T[]): T {
    return list[Math.floor(this.at(place) * list.length)] as T;
  }

  /** A source of numbers in [0, 1), one after the other. */
  stream(place: string): () => number {
    let state = Math.floor(this.at(place) * 2 ** 32);
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      return mix(state) / 2 ** 32;
    };
  }
}

/** Murmur3's last step: every bit of the input moves about half of the output's. */
function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
