import type { Fault } from "./faults.ts";
import { Violation } from "./invariants.ts";
import type { Scenario } from "./scenario.ts";
import { World } from "./world.ts";

export interface Outcome {
  readonly violation: Violation | null;
  readonly story: readonly { readonly atMs: number; readonly line: string }[];
  readonly happened: ReadonlyMap<Fault, number>;
  /** Each fault that happened, by its place. */
  readonly places: ReadonlySet<string>;
  readonly simulatedMs: number;
  readonly jobs: number;
  readonly machines: number;
  readonly crashes: number;
  readonly steps: number;
}

/** Calm time after which every job must have run: back-offs, then each job one after the other. */
const calmMs = 20 * 60_000;
const eachJobMs = 6 * 60_000;
/** Calm time after the last job until nothing may be left over. */
const clearedMs = 15 * 60_000;
/** Turns of the event loop without a step of the manager after which it only waits for time. */
const quietTurns = 4;
/** Moments in one run: a manager in a spin reaches it. */
const momentsMax = 400_000;

/** Runs one scenario to its end, or to what breaks first. */
export async function run(scenario: Scenario): Promise<Outcome> {
  const world = new World(scenario);
  let violation: Violation | null = null;
  try {
    world.begin();
    await settled(world);
    await toTheEnd(world);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    violation = error;
  } finally {
    world.close();
  }
  return {
    violation,
    story: world.story,
    happened: world.faults.happened,
    places: world.faults.places,
    simulatedMs: world.elapsedMs,
    jobs: world.forge.jobs.length,
    machines: [...world.clouds.values()].reduce((sum, { machines }) => sum + machines.length, 0),
    crashes: world.crashes,
    steps: world.steps,
  };
}

async function toTheEnd(world: World): Promise<void> {
  const { invariants, scenario } = world;
  const servedBy = scenario.calmAfterMs + calmMs + scenario.jobs.length * eachJobMs;
  let restingSince: number | null = null;
  for (let moments = 0; ; moments++) {
    if (moments > momentsMax) invariants.fail("rest", `${moments} moments and no end`);
    if (!world.clock.next()) invariants.fail("served", "nothing is left that would ever happen");
    await settled(world);
    invariants.each();
    invariants.check();
    if (!world.isCalm) continue;
    const waiting = world.wanted();
    if (waiting.length > 0) {
      restingSince = null;
      if (world.elapsedMs > servedBy)
        invariants.fail("served", `still open: ${waiting.join(", ")}`);
      continue;
    }
    restingSince ??= world.elapsedMs;
    const left = world.leftovers();
    if (left.length === 0) {
      invariants.atRest();
      invariants.check();
      return;
    }
    if (world.elapsedMs > restingSince + clearedMs) {
      invariants.fail("no-leak", `left over: ${left.join(", ")}`);
    }
  }
}

/** Lets everything that a moment set off come to rest before the next. */
async function settled(world: World): Promise<void> {
  let quiet = 0;
  while (quiet < quietTurns) {
    const before = world.steps;
    await new Promise((resolve) => setImmediate(resolve));
    quiet = world.steps === before ? quiet + 1 : 0;
  }
}
