import type { Ledger } from "./ledger.ts";

export interface RunOptions {
  /** Uniform in [0, 1): boot times are drawn by it. */
  readonly chance: () => number;
  /** The width of the intervals that are summed, ms. */
  readonly stepMs: number;
  /** Told of each machine once it is gone, or the run is over. */
  readonly onMachine?: (life: MachineLife) => void;
}

export interface MachineLife {
  readonly pool: string;
  readonly provider: string;
  readonly labelClass: string | null;
  readonly startedAt: number;
  readonly goneAt: number;
  /** Jobs that it ran to their end. */
  readonly jobs: number;
  readonly microUsd: number;
}

/** What a run leaves: raw figures, of which `outcome.ts` makes what people read. */
export interface Run {
  /** ms from queued to started, by job; NaN: it never started. */
  readonly waitMs: Float64Array;
  readonly pools: readonly PoolRun[];
  readonly ledger: Ledger;
  /** Jobs that no pool takes, by the reason. */
  readonly unplaced: ReadonlyMap<string, number>;
  readonly endedAt: number;
}

export interface PoolRun {
  readonly pool: string;
  readonly provider: string;
  jobs: number;
  started: number;
  /** Jobs longer than the pool's limit, at which Mayfly would end them. */
  overlong: number;
  machines: number;
  peakMachines: number;
  machineMs: number;
  microUsd: number;
}

export function newPoolRun(pool: string, provider: string): PoolRun {
  return {
    pool,
    provider,
    jobs: 0,
    started: 0,
    overlong: 0,
    machines: 0,
    peakMachines: 0,
    machineMs: 0,
    microUsd: 0,
  };
}
