import { sql, type Kysely } from "kysely";
import type { JobState } from "../domain/job.ts";
import type { RunnerState } from "../domain/runner.ts";
import type { Tables } from "./schema.ts";
import type { Tx } from "./store.ts";

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
    await db
      .insertInto("tallies")
      .values({ pool, label_class: labelClass, ...delta, since: now })
      .onConflict((conflict) =>
        conflict.columns(["pool", "label_class"]).doUpdateSet({
          ...sums("tallies"),
          since: sql<number>`case when ${sign("tallies.gap")} = ${sign(
            "tallies.gap + excluded.waiting - excluded.booting - excluded.idle",
          )} then tallies.since else excluded.since end`,
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

/**
 * Counts a pool anew from its jobs and runners and mends what differs; returns how many classes
 * did. Nothing should: the counts change with what they count. It guards against our own mistakes
 * and against hands in the database. Must be written alone.
 */
export async function recount(tx: Tx, pool: string): Promise<number> {
  if (tx.engine === "postgres") {
    // Whoever changes a count takes this row first: wait for them, and let them wait for us.
    await tx.db.selectFrom("totals").select("pool").where("pool", "=", pool).forUpdate().execute();
  }
  const actual = new Map<string, Delta>();
  const add = (labelClass: string, tally: Tally | null, count: number): void => {
    if (tally === null) return;
    const delta = actual.get(labelClass) ?? none();
    delta[tally] += count;
    actual.set(labelClass, delta);
  };
  for (const table of ["jobs", "runners"] as const) {
    const rows = await tx.db
      .selectFrom(table)
      .select((is) => ["label_class", "state", is.fn.countAll<number>().as("count")])
      .where("pool", "=", pool)
      .where("state", "not in", table === "jobs" ? ["started", "ended"] : ["gone"])
      .groupBy(["label_class", "state"])
      .execute();
    for (const { label_class: labelClass, state, count } of rows) {
      const tally =
        table === "jobs" ? jobTally(state as JobState) : runnerTally(state as RunnerState);
      add(labelClass, tally, count);
    }
  }
  const kept = await tx.db.selectFrom("tallies").selectAll().where("pool", "=", pool).execute();
  for (const row of kept) {
    for (const tally of tallies) add(row.label_class, tally, -row[tally]);
  }
  let differing = 0;
  for (const [labelClass, delta] of actual) {
    if (tallies.every((tally) => delta[tally] === 0)) continue;
    differing++;
    for (const tally of tallies) tx.deltas.add(pool, labelClass, tally, delta[tally]);
  }
  await mendTotal(tx, pool, kept);
  return differing;
}

/** The total is the sum of the classes as they stand; the differences found are added with them. */
async function mendTotal(tx: Tx, pool: string, kept: readonly Delta[]): Promise<void> {
  const total = none();
  for (const row of kept) for (const tally of tallies) total[tally] += row[tally];
  await tx.db
    .insertInto("totals")
    .values({ pool, ...total })
    .onConflict((conflict) => conflict.column("pool").doUpdateSet(total))
    .execute();
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

function sign(expression: string): ReturnType<typeof sql> {
  return sql`sign(${sql.raw(expression)})`;
}

function none(): Delta {
  return { waiting: 0, booting: 0, idle: 0, busy: 0, ending: 0 };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
