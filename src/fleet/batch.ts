import { MayflyError } from "../domain/errors.ts";

/**
 * Gathers what arrives while the last batch is being written, and writes it as the next one. When
 * a batch fails, its items are tried one by one, so that a bad one hurts nobody else.
 */
export class Batch<T, R> {
  readonly #write: (items: readonly T[]) => Promise<readonly R[]>;
  readonly #max: number;
  readonly #waiting: { item: T; resolve: (result: R) => void; reject: (e: unknown) => void }[] = [];
  readonly #queueMax: number;
  #busy = false;

  /** `write` answers in the order of its items. At most `queueMax` wait; beyond: `too_many`. */
  constructor(
    write: (items: readonly T[]) => Promise<readonly R[]>,
    { max, queueMax }: { max: number; queueMax: number },
  ) {
    this.#write = write;
    this.#max = max;
    this.#queueMax = queueMax;
  }

  add(item: T): Promise<R> {
    if (this.#waiting.length >= this.#queueMax) {
      return Promise.reject(
        new MayflyError(
          "too_many",
          `${this.#queueMax} events wait to be stored; send it again later`,
        ),
      );
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (!this.#busy) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#busy = true;
    // What arrives in this turn of the event loop belongs together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#max);
      try {
        const results = await this.#write(batch.map(({ item }) => item));
        batch.forEach(({ resolve }, index) => resolve(results[index] as R));
      } catch (error) {
        if (batch.length === 1) batch[0]?.reject(error);
        else await this.#oneByOne(batch);
      }
    }
    this.#busy = false;
  }

  async #oneByOne(
    batch: readonly { item: T; resolve: (result: R) => void; reject: (e: unknown) => void }[],
  ): Promise<void> {
    for (const { item, resolve, reject } of batch) {
      try {
        const [result] = await this.#write([item]);
        resolve(result as R);
      } catch (error) {
        reject(error);
      }
    }
  }
}
