/** What happens next: a binary heap by time; what is at one moment comes in the order of its adding. */
export class Heap<T> {
  readonly #at: number[] = [];
  readonly #order: number[] = [];
  readonly #what: T[] = [];
  #added = 0;

  /** The time of the first; Infinity: nothing is there. */
  get nextAt(): number {
    return this.#at[0] ?? Infinity;
  }

  add(at: number, what: T): void {
    const order = this.#added++;
    let hole = this.#at.length;
    this.#put(hole, at, order, what);
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      if (!this.#isBefore(at, order, parent)) break;
      this.#move(parent, hole);
      hole = parent;
    }
    this.#put(hole, at, order, what);
  }

  take(): T {
    const first = this.#what[0]!;
    const at = this.#at.pop()!;
    const order = this.#order.pop()!;
    const what = this.#what.pop()!;
    const { length } = this.#at;
    if (length === 0) return first;
    let hole = 0;
    for (let child = 1; child < length; child = 2 * hole + 1) {
      const right = child + 1;
      if (right < length && this.#isBefore(this.#at[right]!, this.#order[right]!, child)) {
        child = right;
      }
      if (this.#isBefore(at, order, child)) break;
      this.#move(child, hole);
      hole = child;
    }
    this.#put(hole, at, order, what);
    return first;
  }

  #isBefore(at: number, order: number, place: number): boolean {
    const other = this.#at[place]!;
    return at < other || (at === other && order < this.#order[place]!);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#at[from]!, this.#order[from]!, this.#what[from]!);
  }

  #put(place: number, at: number, order: number, what: T): void {
    this.#at[place] = at;
    this.#order[place] = order;
    this.#what[place] = what;
  }
}
