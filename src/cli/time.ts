import { readFileSync } from "node:fs";
import type { Log } from "../fleet/log.ts";
import { systemElapsed, type SteadyClock } from "../fleet/clock.ts";
import type { Store } from "../store/store.ts";
import { keepTime } from "../store/times.ts";

const lookMs = 5_000;
/** Less is not worth a word: an hour's drift of a bad clock. */
const noticedMs = 10_000;

/**
 * Ties a store that is ours alone to a steady clock: what is pending is carried over from the last
 * start, and the system's clock is watched. One set forwards is followed as soon as no machine lives,
 * as after a start without the time; else at the next start. Returns how to stop watching.
 */
export async function keepSteady(store: Store, clock: SteadyClock, log: Log): Promise<() => void> {
  const keep = (): Promise<number> =>
    store.write((tx) =>
      keepTime(tx, { boot: bootId(), elapsed: systemElapsed(), now: clock.now() }),
    );
  const setBy = await keep();
  if (setBy !== 0) log.warn({ seconds: seconds(setBy) }, "the system's clock was set meanwhile");
  let told = 0;
  const look = async (): Promise<void> => {
    const by = clock.setByMs();
    if (Math.abs(by - told) > noticedMs) {
      told = by;
      const how = by > 0 ? "is followed once no machine lives" : "is followed at the next start";
      log.warn({ seconds: seconds(by) }, `the system's clock was set; it ${how}`);
    }
    if (by <= noticedMs || (await anyLives(store))) return;
    clock.follow();
    told = 0;
    await keep();
  };
  const timer = setInterval(() => void look().catch(() => {}), lookMs).unref();
  return () => clearInterval(timer);
}

async function anyLives({ db }: Store): Promise<boolean> {
  const query = db.selectFrom("runners").select("name").where("state", "!=", "gone").limit(1);
  return (await query.executeTakeFirst()) !== undefined;
}

/** Linux tells one start of the system from another. */
function bootId(): string | null {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return null;
  }
}

function seconds(ms: number): number {
  return Math.round(ms / 1000);
}
