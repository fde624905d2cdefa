import type { Program } from "../domain/program.ts";
import type { MintContext } from "./forge.ts";

/** What a guest needs to begin; `src/guest` makes the program of it. */
export interface GuestBirth {
  readonly managerUrl: string;
  readonly claim: string;
  readonly jobSeconds: number;
  readonly lifeSeconds: number;
}

/** Handed in, since forges do not know the guest. */
export type MakeGuest = (birth: GuestBirth) => Program;

/** As long as the fleet keeps a warm machine waiting at most; its life adds the longest job. */
const idleSecondsMax = 24 * 3600;
/** To boot, and to end and report a job that took all of its time. */
const spareSeconds = 600;

/** Mayfly's guest for a machine that waits for its one job: the same for every forge. */
export function mintGuest(make: MakeGuest, context: MintContext): Program {
  const { managerUrl, claimToken, jobDeadlineSeconds, idleSeconds } = context;
  return make({
    managerUrl,
    claim: claimToken,
    jobSeconds: jobDeadlineSeconds,
    lifeSeconds: Math.max(idleSeconds, idleSecondsMax) + jobDeadlineSeconds + spareSeconds,
  });
}
