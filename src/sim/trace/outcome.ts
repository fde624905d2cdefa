import { uses, type Use } from "./ledger.ts";
import type { PoolRun, Run } from "./run.ts";
import { lowerBound, type Trace } from "./trace.ts";

/** What a run came to, as people and programs read it. */
export interface Outcome {
  readonly jobs: number;
  /** Jobs that no pool takes, and those that never got a machine. */
  readonly unplaced: number;
  readonly unserved: number;
  /** Why pools do not take the jobs that none takes, the most frequent first. */
  readonly unplacedBecause: readonly { readonly reason: string; readonly jobs: number }[];
  /** Jobs longer than their pool's limit: Mayfly would end them there, here they run on. */
  readonly overlong: number;
  /** Of the jobs that started. */
  readonly wait: WaitFigures;
  readonly machineSeconds: Readonly<Record<Use | "all", number>>;
  /** Machine time that no job used while it was up, of all machine time: 0 to 1. */
  readonly idleShare: number;
  readonly machines: number;
  readonly peakMachines: number;
  readonly peakQueue: number;
  readonly microUsd: number;
  readonly providers: readonly ProviderBill[];
  readonly pools: readonly PoolRun[];
  readonly points: readonly OutcomePoint[];
}

export interface WaitFigures {
  readonly p50Seconds: number;
  readonly p95Seconds: number;
  readonly p99Seconds: number;
  readonly meanSeconds: number;
  readonly longestSeconds: number;
}

export interface ProviderBill {
  readonly provider: string;
  readonly machines: number;
  readonly machineSeconds: number;
  readonly microUsd: number;
}

/** One interval of the run. */
export interface OutcomePoint {
  /** Its end, ms. */
  readonly at: number;
  /** The longest queue in it. */
  readonly queue: number;
  /** Of the jobs queued in it; null: none of them has started. */
  readonly waitP50Ms: number | null;
  readonly waitP95Ms: number | null;
  readonly seconds: Readonly<Record<Use, number>>;
}

/** Sums a run up. `run` must be of this trace. */
export function outcomeOf(trace: Trace, run: Run): Outcome {
  const { pools, ledger, unplaced } = run;
  const waits = sortedWaits(run.waitMs);
  const started = waits.length;
  const seconds = (use: Use): number => sum(ledger.time[use]) / 1000;
  const spent = Object.fromEntries(uses.map((use) => [use, seconds(use)])) as Record<Use, number>;
  const all = sum(Object.values(spent));
  const refused = sum(unplaced.values());
  return {
    jobs: trace.count,
    unplaced: refused,
    unserved: trace.count - refused - started,
    unplacedBecause: [...unplaced]
      .map(([reason, jobs]) => ({ reason, jobs }))
      .sort((a, b) => b.jobs - a.jobs),
    overlong: sum(pools.map(({ overlong }) => overlong)),
    wait: {
      p50Seconds: quantile(waits, 0.5) / 1000,
      p95Seconds: quantile(waits, 0.95) / 1000,
      p99Seconds: quantile(waits, 0.99) / 1000,
      meanSeconds: started === 0 ? 0 : sum(waits) / started / 1000,
      longestSeconds: quantile(waits, 1) / 1000,
    },
    machineSeconds: { ...spent, all },
    idleShare: all === 0 ? 0 : spent.idle / all,
    machines: sum(pools.map(({ machines }) => machines)),
    peakMachines: ledger.peakMachines,
    peakQueue: ledger.peakQueue,
    microUsd: sum(pools.map(({ microUsd }) => microUsd)),
    providers: billsOf(pools),
    pools,
    points: pointsOf(trace, run),
  };
}

function billsOf(pools: readonly PoolRun[]): ProviderBill[] {
  const names = [...new Set(pools.map(({ provider }) => provider))];
  return names.map((provider) => {
    const own = pools.filter((pool) => pool.provider === provider);
    return {
      provider,
      machines: sum(own.map(({ machines }) => machines)),
      machineSeconds: sum(own.map(({ machineMs }) => machineMs)) / 1000,
      microUsd: sum(own.map(({ microUsd }) => microUsd)),
    };
  });
}

function pointsOf(trace: Trace, { ledger, waitMs }: Run): OutcomePoint[] {
  const { from, stepMs, time, queue } = ledger;
  const steps = Math.max(queue.length, ...uses.map((use) => time[use].length));
  const points: OutcomePoint[] = [];
  let first = 0;
  for (let step = 0; step < steps; step++) {
    const at = from + (step + 1) * stepMs;
    const end = lowerBound(trace.queuedAt, at);
    const waits = sortedWaits(waitMs.subarray(first, end));
    first = end;
    points.push({
      at,
      queue: queue[step] ?? 0,
      waitP50Ms: waits.length === 0 ? null : quantile(waits, 0.5),
      waitP95Ms: waits.length === 0 ? null : quantile(waits, 0.95),
      seconds: {
        booting: (time.booting[step] ?? 0) / 1000,
        busy: (time.busy[step] ?? 0) / 1000,
        idle: (time.idle[step] ?? 0) / 1000,
        ending: (time.ending[step] ?? 0) / 1000,
      },
    });
  }
  return points;
}

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const steps = [1, 2, 5, 10, 15, 30].map((count) => count * minute);
const longSteps = [1, 2, 3, 4, 6, 12, 24, 48, 24 * 7, 24 * 14, 24 * 28].map(
  (count) => count * hour,
);

/** The width of the intervals for a trace: about so many of them, of a length that people count in. */
export function stepFor(trace: Trace, intervals = 120): number {
  const first = trace.queuedAt[0] ?? 0;
  const last = trace.queuedAt[trace.count - 1] ?? 0;
  const wanted = (last - first) / intervals;
  return [...steps, ...longSteps].find((step) => step >= wanted) ?? Math.ceil(wanted / day) * day;
}

function sortedWaits(waitMs: Float64Array): Float64Array {
  // Sorting puts NaN, the mark of jobs that never started, at the end.
  const sorted = waitMs.toSorted();
  return sorted.subarray(0, sorted.findLastIndex((ms) => !Number.isNaN(ms)) + 1);
}

/** The value that at least `share` of the sorted values do not exceed; 0 of none. */
function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
