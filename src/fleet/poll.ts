import type { Forge } from "../forges/forge.ts";
import type { ForgeHealth, Intake } from "./api.ts";
import { within, type Clock } from "./clock.ts";

const pollLimitMs = 60_000;
/** Sightings taken over in one unit of writing. */
const sightingsAtOnce = 500;

/** Asks a forge what waits and runs, and stores what is new. A failure is told, never thrown. */
export async function pollForge(
  forge: Forge,
  intake: Intake,
  clock: Clock,
  signal: AbortSignal,
): Promise<ForgeHealth> {
  try {
    const sightings = await within(clock, pollLimitMs, signal, (until) => forge.poll(until));
    for (let from = 0; from < sightings.length; from += sightingsAtOnce) {
      await intake.record(sightings.slice(from, from + sightingsAtOnce));
    }
    return { name: forge.name, polledAt: clock.now(), failure: null };
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    return { name: forge.name, polledAt: null, failure };
  }
}
