import type { Invariant } from "./invariants.ts";
import { run, type Outcome } from "./run.ts";
import type { Scenario } from "./scenario.ts";

/** Runs that finding the smallest failing one may cost. */
const runsMax = 300;

export interface Shrunk {
  readonly scenario: Scenario;
  readonly outcome: Outcome;
  readonly runs: number;
}

/**
 * The smallest scenario found that still breaks the same invariant: without the faults, pools, jobs
 * and single occurrences that do not matter. Each answer of chance hangs on its place alone, so that
 * what is left out changes nothing else.
 */
export async function shrink(from: Scenario, invariant: Invariant): Promise<Shrunk> {
  let best: Shrunk = { scenario: from, outcome: await run(from), runs: 1 };
  let runs = 1;

  const tries = async (scenario: Scenario): Promise<boolean> => {
    if (runs >= runsMax) return false;
    runs++;
    const outcome = await run(scenario);
    if (outcome.violation?.invariant !== invariant) return false;
    best = { scenario, outcome, runs };
    return true;
  };
  /** Leaves out what can be left out of a list: halves first, then quarters, down to single ones. */
  const thin = async <T>(all: readonly T[], without: (kept: readonly T[]) => Scenario) => {
    let kept = all;
    for (let size = Math.ceil(all.length / 2); size >= 1; size = size > 1 ? size >> 1 : 0) {
      for (let at = 0; at < kept.length;) {
        const fewer = [...kept.slice(0, at), ...kept.slice(at + size)];
        if (await tries(without(fewer))) kept = fewer;
        else at += size;
      }
    }
  };

  await thin([...from.faults], (kept) => ({ ...best.scenario, faults: new Set(kept) }));
  await thin(from.jobs, (jobs) => ({ ...best.scenario, jobs }));
  await thin(from.pools, (pools) => ({ ...best.scenario, pools }));
  const places = [...best.outcome.places];
  await thin(places, (kept) => {
    const stays = new Set(kept);
    return { ...best.scenario, without: new Set(places.filter((place) => !stays.has(place))) };
  });
  return { ...best, runs };
}
