import { parentPort, workerData } from "node:worker_threads";
import type { Fault } from "./faults.ts";
import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";

export interface Share {
  readonly from: number;
  readonly seeds: number;
  /** Every nth seed from `from` on. */
  readonly every: number;
  readonly faults: readonly Fault[] | null;
}

/** What a run tells of itself. */
export interface SeedResult {
  readonly seed: number;
  readonly violation: string | null;
  readonly happened: readonly (readonly [Fault, number])[];
  readonly chosen: readonly Fault[];
  readonly simulatedMs: number;
  readonly jobs: number;
  readonly machines: number;
  readonly crashes: number;
}

const share = workerData as Share;
for (let seed = share.from; seed < share.from + share.seeds; seed += share.every) {
  const scenario = scenarioOf(seed, share.faults ?? undefined);
  const { violation, happened, simulatedMs, jobs, machines, crashes } = await run(scenario);
  const result: SeedResult = {
    seed,
    violation: violation?.message ?? null,
    happened: [...happened],
    chosen: [...scenario.faults],
    simulatedMs,
    jobs,
    machines,
    crashes,
  };
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
  parentPort?.postMessage(result);
}
