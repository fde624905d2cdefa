import { between, type Trace } from "./trace.ts";

export interface Split {
  /** To learn from, and to choose by. */
  readonly before: Trace;
  /** To judge by. */
  readonly after: Trace;
  /** ms since the epoch. */
  readonly at: number;
}

/**
 * A trace cut at a part (0 to 1) of its time, not of its jobs: what is judged comes after all that
 * was learned from.
 */
export function splitTrace(trace: Trace, part: number): Split {
  const first = trace.queuedAt[0] ?? 0;
  const last = trace.queuedAt[trace.count - 1] ?? 0;
  const at = first + (last - first) * part;
  return { before: between(trace, first, at), after: between(trace, at, Infinity), at };
}
