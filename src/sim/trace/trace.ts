import type { TrustClass } from "../../domain/trust.ts";

/** What jobs may differ in where it matters: where they may run. */
export interface DemandKind {
  /** Null: the trace says nothing of labels. */
  readonly labels: readonly string[] | null;
  readonly trust: TrustClass;
}

/** A history of jobs by columns, in the order of queueing: a million rows are 20 MB. */
export interface Trace {
  readonly count: number;
  /** ms since the epoch; a trace with times of its own begins at 0. */
  readonly queuedAt: Float64Array;
  readonly durationMs: Float64Array;
  /** Index into `kinds`. */
  readonly kind: Uint32Array;
  readonly kinds: readonly DemandKind[];
  /** Jobs of the source that never ran or were passed over, by why. */
  readonly leftOut: ReadonlyMap<string, number>;
}

const firstRoom = 1024;

/** Takes jobs one by one, in any order. */
export class TraceBuilder {
  #queuedAt = new Float64Array(firstRoom);
  #durationMs = new Float64Array(firstRoom);
  #kind = new Uint32Array(firstRoom);
  #count = 0;
  #isSorted = true;
  readonly #kinds: DemandKind[] = [];
  readonly #kindOf = new Map<string, number>();
  readonly #leftOut = new Map<string, number>();

  get count(): number {
    return this.#count;
  }

  add(queuedAt: number, durationMs: number, kind: number): void {
    if (this.#count === this.#kind.length) this.#grow();
    const last = this.#count - 1;
    if (last >= 0 && queuedAt < this.#queuedAt[last]!) this.#isSorted = false;
    this.#queuedAt[this.#count] = queuedAt;
    this.#durationMs[this.#count] = durationMs;
    this.#kind[this.#count] = kind;
    this.#count++;
  }

  /** The index of a kind of demand; `key` is the same for the same kind. */
  kind(key: string, read: () => DemandKind): number {
    let index = this.#kindOf.get(key);
    if (index === undefined) {
      index = this.#kinds.push(read()) - 1;
      this.#kindOf.set(key, index);
    }
    return index;
  }

  leaveOut(why: string): void {
    this.#leftOut.set(why, (this.#leftOut.get(why) ?? 0) + 1);
  }

  build(): Trace {
    const count = this.#count;
    const parts = { count, kinds: this.#kinds, leftOut: this.#leftOut };
    if (this.#isSorted) {
      return {
        ...parts,
        queuedAt: this.#queuedAt.slice(0, count),
        durationMs: this.#durationMs.slice(0, count),
        kind: this.#kind.slice(0, count),
      };
    }
    const order = Uint32Array.from({ length: count }, (_, index) => index);
    order.sort((a, b) => this.#queuedAt[a]! - this.#queuedAt[b]! || a - b);
    return {
      ...parts,
      queuedAt: Float64Array.from(order, (index) => this.#queuedAt[index]!),
      durationMs: Float64Array.from(order, (index) => this.#durationMs[index]!),
      kind: Uint32Array.from(order, (index) => this.#kind[index]!),
    };
  }

  #grow(): void {
    const room = this.#kind.length * 2;
    const [queuedAt, durationMs, kind] = [this.#queuedAt, this.#durationMs, this.#kind];
    this.#queuedAt = new Float64Array(room);
    this.#durationMs = new Float64Array(room);
    this.#kind = new Uint32Array(room);
    this.#queuedAt.set(queuedAt);
    this.#durationMs.set(durationMs);
    this.#kind.set(kind);
  }
}

/** A part of a trace, jobs queued in [from, to), with the same kinds. */
export function between(trace: Trace, from: number, to: number): Trace {
  const first = lowerBound(trace.queuedAt, from);
  const end = lowerBound(trace.queuedAt, to);
  return {
    ...trace,
    count: end - first,
    queuedAt: trace.queuedAt.subarray(first, end),
    durationMs: trace.durationMs.subarray(first, end),
    kind: trace.kind.subarray(first, end),
  };
}

/** The first index whose value is not below `value`, of sorted values. */
export function lowerBound(values: Float64Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
