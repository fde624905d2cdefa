import { samplePool } from "../domain/samples.ts";
import type { Price } from "../domain/money.ts";
import type { Pool } from "../domain/pool.ts";
import type { TrustClass } from "../domain/trust.ts";
import type { Timing } from "../fleet/fleet.ts";
import { Chance } from "./chance.ts";
import { allFaults, faultPairs, type Fault } from "./faults.ts";
import { forgeRules, type ForgeRule } from "./forge-rules.ts";

/** One run, whole: nothing else decides what happens in it. */
export interface Scenario {
  readonly seed: number;
  readonly faults: ReadonlySet<Fault>;
  /** Occurrences left out, to find those that matter. */
  readonly without: ReadonlySet<string>;
  readonly rule: ForgeRule;
  readonly pools: readonly Pool[];
  readonly providers: readonly ProviderPlan[];
  readonly jobs: readonly JobPlan[];
  readonly timing: Partial<Timing>;
  /** Until then faults happen, ms after the start. */
  readonly calmAfterMs: number;
}

export interface ProviderPlan {
  readonly name: string;
  readonly bootMs: readonly [number, number];
  readonly answerMs: readonly [number, number];
  readonly price: Price;
}

export interface JobPlan {
  readonly id: string;
  /** Milliseconds after the start. */
  readonly atMs: number;
  readonly labels: readonly string[];
  readonly trust: TrustClass;
  readonly runMs: number;
}

/** The world of one seed, with these faults or with some that the seed chooses. */
export function scenarioOf(seed: number, chosen?: readonly Fault[]): Scenario {
  const chance = new Chance(seed);
  const pools = poolsOf(chance);
  const calmAfterMs = chance.between("calm", 120, 420) * 1000;
  return {
    seed,
    faults: new Set(chosen ?? someFaults(seed, chance)),
    without: new Set(),
    rule: chance.pick("rule", forgeRules),
    pools,
    providers: [...new Set(pools.map(({ provider }) => provider))].map((name) =>
      providerOf(name, chance),
    ),
    jobs: jobsOf(chance, pools, calmAfterMs),
    timing: {
      tickMs: chance.pick("tick", [5_000, 30_000, 30_000, 30_000]),
      sweepMs: 30_000,
      pollMs: chance.pick("poll", [20_000, 30_000, 60_000]),
      leaseMs: chance.pick("lease", [15_000, 60_000, 60_000]),
      lagMs: 20_000,
      callsAtOnce: chance.pick("calls", [1, 4, 10]),
    },
    calmAfterMs,
  };
}

/** A third of the seeds tries each fault alone in turn, a third each pair, the rest any company. */
function someFaults(seed: number, chance: Chance): readonly Fault[] {
  const turn = Math.floor(seed / 3);
  if (seed % 3 === 0) return [allFaults[turn % allFaults.length] as Fault];
  if (seed % 3 === 1) return faultPairs[turn % faultPairs.length] ?? [];
  const share = chance.at("share");
  return allFaults.filter((fault) => chance.at(`chosen/${fault}`) < share);
}

function poolsOf(chance: Chance): Pool[] {
  const count = chance.between("pools", 1, 3);
  return Array.from({ length: count }, (_, index) => {
    const name = `p${index}`;
    const at = (what: string): string => `pool/${name}/${what}`;
    const max = chance.between(at("max"), 1, 5);
    const warm = chance.pick(at("warm"), [0, 0, 0, 1, 2]);
    return samplePool({
      name,
      forge: "forge",
      provider: chance.pick(at("provider"), ["box", "cloud"]),
      labels: chance.pick(at("labels"), [["linux"], ["linux", "big"], [`own-${name}`]]),
      accept: chance.pick(at("accept"), [["trusted"], ["trusted", "fork"], ["fork"]]),
      max,
      warm: Math.min(warm, max),
      min: chance.pick(at("min"), [0, 0, 0, 1]),
      learn: chance.pick(at("learn"), [null, null, { unit: "hours", amount: 50 }]),
      bootDeadlineSeconds: chance.pick(at("boot"), [60, 120]),
      idleSeconds: chance.pick(at("idle"), [0, 30, 120]),
      jobDeadlineSeconds: 240,
    });
  });
}

function providerOf(name: string, chance: Chance): ProviderPlan {
  const fastest = chance.pick(`${name}/boot`, [200, 2_000, 20_000]);
  return {
    name,
    bootMs: [fastest, fastest * 2],
    answerMs: chance.pick(`${name}/answer`, [
      [5, 50],
      [300, 3_000],
    ]),
    price: {
      microUsdPerHour: 36_000,
      quantumSeconds: chance.pick(`${name}/quantum`, [1, 60]),
      minimumSeconds: 0,
    },
  };
}

function jobsOf(chance: Chance, pools: readonly Pool[], withinMs: number): JobPlan[] {
  const bursts = chance.between("bursts", 1, 3);
  const jobs: JobPlan[] = [];
  for (let burst = 0; burst < bursts; burst++) {
    const atMs = chance.between(`burst/${burst}/at`, 0, withinMs);
    const size = chance.between(`burst/${burst}/size`, 1, 5);
    for (let i = 0; i < size; i++) {
      const id = `${burst}${i}`;
      const pool = chance.pick(`job/${id}/pool`, pools);
      const labels = chance.at(`job/${id}/few`) < 0.3 ? pool.labels.slice(0, 1) : pool.labels;
      jobs.push({
        id,
        atMs: atMs + chance.between(`job/${id}/at`, 0, 5_000),
        labels: chance.at(`job/${id}/none`) < 0.05 ? ["nowhere"] : labels,
        trust: chance.pick(`job/${id}/trust`, ["trusted", "trusted", "fork"]),
        runMs: chance.pick(`job/${id}/run`, [500, 5_000, 40_000, 120_000]),
      });
    }
  }
  return jobs;
}
