import { sql } from "kysely";
import type { Tx } from "./store.ts";

/** Two clocks at one moment, kept to tell at the next start what the first was set by meanwhile. */
export interface Moment {
  /** Which start of the system; null where it does not say. */
  readonly boot: string | null;
  /** By a clock that nobody sets, since that start, ms. */
  readonly elapsed: number;
  /** By the system's clock, ms since the epoch. */
  readonly now: number;
}

/** What two processes' readings of the clocks may differ by. */
const toleranceMs = 2_000;
const key = "moment";

/**
 * Notes this moment, and moves everything that is pending by what the system's clock was set by
 * since the last one: ages stay what they truly are. After another start of the system only a clock
 * that went back can be told. Returns by how much, ms. For a store that is ours alone.
 */
export async function keepTime(tx: Tx, moment: Moment): Promise<number> {
  const row = await tx.db
    .selectFrom("settings")
    .select("value")
    .where("key", "=", key)
    .executeTakeFirst();
  const before = row === undefined ? null : (JSON.parse(row.value) as Moment);
  const setBy = before === null ? 0 : await setSince(tx, before, moment);
  if (setBy !== 0) await movePending(tx, setBy);
  const value = JSON.stringify(moment);
  await tx.db
    .insertInto("settings")
    .values({ key, value })
    .onConflict((conflict) => conflict.column("key").doUpdateSet({ value }))
    .execute();
  return setBy;
}

async function setSince(tx: Tx, before: Moment, now: Moment): Promise<number> {
  if (before.boot !== null && before.boot === now.boot) {
    const expected = before.now + (now.elapsed - before.elapsed);
    const setBy = Math.round(now.now - expected);
    return Math.abs(setBy) > toleranceMs ? setBy : 0;
  }
  const newest = await tx.db
    .selectFrom("facts")
    .select("at")
    .orderBy("id", "desc")
    .limit(1)
    .executeTakeFirst();
  const latest = Math.max(before.now, newest?.at ?? 0);
  return latest - now.now > toleranceMs ? now.now - latest : 0;
}

/** Not what is over, nor what a forge has stamped by its own clock. */
async function movePending(tx: Tx, ms: number): Promise<void> {
  const { db } = tx;
  await sql`update runners set claimed_at = claimed_at + ${ms}, asked_at = asked_at + ${ms},
    up_at = up_at + ${ms}, started_at = started_at + ${ms}, ended_at = ended_at + ${ms},
    due_at = due_at + ${ms} where state <> 'gone'`.execute(db);
  await sql`update jobs set queued_at = queued_at + ${ms}, seen_at = seen_at + ${ms},
    started_at = started_at + ${ms} where state <> 'ended' and work is not null`.execute(db);
  await sql`update tallies set since = since + ${ms}`.execute(db);
  await sql`update back_offs set until = until + ${ms}`.execute(db);
  await sql`update cancellations set at = at + ${ms}`.execute(db);
  await sql`update sightings set first_at = first_at + ${ms}, last_at = last_at + ${ms}`.execute(
    db,
  );
}
