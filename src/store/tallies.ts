import { sql, type Kysely } from "kysely";
import type { JobState } from "../domain/job.ts";
import type { RunnerState } from "../domain/runner.ts";
import type { Tables } from "./schema.ts";

/** What a waiting job or a living runner counts as. */
export type Tally = "waiting" | "booting" | "idle" | "busy" | "ending";

const tallies = ["waiting", "booting", "idle", "busy", "ending"] as const;
type Delta = Record<Tally, number>;

export function jobTally(state: JobState): Tally | null {
  return state === "waiting" ? "waiting" : null;
}

export function runnerTally(state: RunnerState): Tally | null {
  const names: Record<RunnerState, Tally | null> = {
    claimed: "booting",
    asked: "booting",
    up: "idle",
    started: "busy",
    ended: "ending",
    gone: null,
  };
  return names[state];
}

/** Changes to the counts of one unit of writing, summed before they reach the tables. */
export class Deltas {
  readonly byClass = new Map<string, { pool: string; labelClass: string; delta: Delta }>();

  add(pool: string, labelClass: string, tally: Tally | null, amount: number): void {
    if (tally === null) return;
    // A pool's name holds no slash.
    const key = `${pool}/${labelClass}`;
    let entry = this.byClass.get(key);
    if (entry === undefined) {
      entry = { pool, labelClass, delta: none() };
      this.byClass.set(key, entry);
    }
    entry.delta[tally] += amount;
  }

  /** From one state's count to another's. */
  move(pool: string, labelClass: string, from: Tally | null, to: Tally | null): void {
    this.add(pool, labelClass, from, -1);
    this.add(pool, labelClass, to, 1);
  }

  merge(other: Deltas): void {
    for (const { pool, labelClass, delta } of other.byClass.values()) {
      for (const tally of tallies) this.add(pool, labelClass, tally, delta[tally]);
    }
  }
}

/**
 * Writes the changes, in a fixed order so that replicas cannot deadlock. A pool's total comes
 * first and so serialises the writers of that pool.
 */
export async function flushDeltas(db: Kysely<Tables>, deltas: Deltas, now: number): Promise<void> {
  const changed = [...deltas.byClass.values()].filter(({ delta }) =>
    tallies.some((tally) => delta[tally] !== 0),
  );
  if (changed.length === 0) return;
  changed.sort((a, b) => compare(a.pool, b.pool) || compare(a.labelClass, b.labelClass));

  const totals = new Map<string, Delta>();
  for (const { pool, delta } of changed) {
    const total = totals.get(pool) ?? none();
    for (const tally of tallies) total[tally] += delta[tally];
    totals.set(pool, total);
  }
  for (const [pool, delta] of totals) {
    await db
      .insertInto("totals")
      .values({ pool, ...delta })
      .onConflict((conflict) => conflict.column("pool").doUpdateSet(sums("totals")))
      .execute();
  }
  for (const { pool, labelClass, delta } of changed) {
    const gap = delta.waiting - delta.booting - delta.idle;
    await db
      .insertInto("tallies")
      .values({ pool, label_class: labelClass, ...delta, gap, since: now })
      .onConflict((conflict) =>
        conflict.columns(["pool", "label_class"]).doUpdateSet({
          ...sums("tallies"),
          gap: sql<number>`tallies.gap + excluded.gap`,
          since: sql<number>`case when (tallies.gap > 0) = (tallies.gap + excluded.gap > 0)
            and (tallies.gap < 0) = (tallies.gap + excluded.gap < 0)
            then tallies.since else excluded.since end`,
        }),
      )
      .execute();
    if (tallies.some((tally) => delta[tally] < 0)) {
      // Label classes may be unique to one run; keep no row for what is over.
      await db
        .deleteFrom("tallies")
        .where("pool", "=", pool)
        .where("label_class", "=", labelClass)
        .where(sql<boolean>`waiting = 0 and booting = 0 and idle = 0 and busy = 0 and ending = 0`)
        .execute();
    }
  }
}

function sums(table: "tallies" | "totals"): Record<Tally, ReturnType<typeof sql<number>>> {
  const sum = (tally: Tally) =>
    sql<number>`${sql.ref(`${table}.${tally}`)} + ${sql.ref(`excluded.${tally}`)}`;
  return {
    waiting: sum("waiting"),
    booting: sum("booting"),
    idle: sum("idle"),
    busy: sum("busy"),
    ending: sum("ending"),
  };
}

function none(): Delta {
  return { waiting: 0, booting: 0, idle: 0, busy: 0, ending: 0 };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
