const jobsMax = 10_000;

/** A number for each job, as far as we remember: one whose machine vanished never says its end. */
export class JobCounts {
  readonly #counts = new Map<string, number>();

  get(job: string): number | undefined {
    return this.#counts.get(job);
  }

  set(job: string, count: number): void {
    this.#counts.delete(job);
    this.#counts.set(job, count);
    const oldest = this.#counts.keys().next();
    if (this.#counts.size > jobsMax && oldest.done !== true) this.#counts.delete(oldest.value);
  }

  /** Returns the sum. */
  add(job: string, amount: number): number {
    const sum = (this.#counts.get(job) ?? 0) + amount;
    this.set(job, sum);
    return sum;
  }
}
