import { Desk, type DeskParts } from "./desk.ts";
import { Native, type NativeDeskParts } from "./native.ts";
import { pruneNative } from "./native-prune.ts";

/** The desks for native jobs and for guests, and their housekeeping, over the same parts. */
export function createDesks(parts: DeskParts & NativeDeskParts): {
  readonly native: Native;
  readonly guests: Desk;
  prune(now: number): Promise<void>;
} {
  const native = new Native(parts);
  return {
    native,
    guests: new Desk(parts),
    prune: async (now) => {
      await native.endDeaf();
      await pruneNative(parts, now);
    },
  };
}
