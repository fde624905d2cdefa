import { subset } from "../../domain/matching.ts";
import type { Price } from "../../domain/money.ts";
import type { Pool } from "../../domain/pool.ts";
import { samplePool } from "../../domain/samples.ts";
import { Chance } from "../chance.ts";
import { runTrace } from "./engine.ts";
import { mayfly } from "./mayfly.ts";
import type { Policy } from "./policy.ts";
import type { MachineLife, Run } from "./run.ts";
import type { Setting } from "./setting.ts";
import { TraceBuilder, type Trace } from "./trace.ts";

/* Ordinary values for tests of simulated traces, of which a test changes what it is about. */

export const samplePrice: Price = {
  microUsdPerHour: 36_000,
  quantumSeconds: 1,
  minimumSeconds: 60,
};

export interface SampleJob {
  readonly queuedAt: number;
  readonly durationMs: number;
  readonly labels?: readonly string[] | null;
}

export function sampleTrace(jobs: readonly SampleJob[]): Trace {
  const builder = new TraceBuilder();
  for (const { queuedAt, durationMs, labels = ["linux", "x64"] } of jobs) {
    const kind = { labels, trust: "trusted" as const };
    builder.add(
      queuedAt,
      durationMs,
      builder.kind(JSON.stringify(kind), () => kind),
    );
  }
  return builder.build();
}

export function sampleSetting(
  pools: readonly Partial<Pool>[] = [{}],
  machine: { readonly bootMs?: readonly number[]; readonly endingMs?: number } = {},
): Setting {
  const { bootMs = [5000, 20_000], endingMs = 1000 } = machine;
  const boot = { quantilesMs: bootMs, from: "a test" };
  const box = { boot, endingMs, price: () => samplePrice };
  return {
    name: "a test",
    pools: pools.map((changes) => samplePool({ provider: "box", ...changes })),
    providers: new Map([["box", box]]),
    ruleOf: () => subset,
  };
}

/** A run with the lives of all its machines. */
export function sampleRun(
  trace: Trace,
  setting: Setting,
  policy: Policy = mayfly,
  seed = 1,
): Run & { readonly lives: readonly MachineLife[] } {
  const lives: MachineLife[] = [];
  const onMachine = (life: MachineLife): unknown => lives.push(life);
  const run = runTrace(trace, setting, policy, {
    chance: new Chance(seed).stream("boots"),
    stepMs: 60_000,
    onMachine,
  });
  return { ...run, lives };
}
