import { sql, type Kysely } from "kysely";
import type { JobState } from "../domain/job.ts";
import type { RunnerState } from "../domain/runner.ts";
import { inserter } from "./insert.ts";
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
export async function flushDeltas(
  tx: Pick<Tx, "db" | "engine">,
  deltas: Deltas,
  now: number,
): Promise<void> {
  const changed = [...deltas.byClass.values()].filter(({ delta }) =>
    tallies.some((tally) => delta[tally] !== 0),
  );
  if (changed.length === 0) return;
  changed.sort((a, b) => compare(a.pool, b.pool) || compare(a.labelClass, b.labelClass));

  const totals = new Map<string, Delta & { pool: string }>();
  for (const { pool, delta } of changed) {
    const total = totals.get(pool) ?? { pool, ...none() };
    for (const tally of tallies) total[tally] += delta[tally];
    totals.set(pool, total);
  }
  await addToTotals(tx, [...totals.values()]);
  const rows = changed.map(({ pool, labelClass, delta }) => ({
    pool,
    label_class: labelClass,
    ...delta,
    since: now,
  }));
  await addToTallies(tx, rows);
  for (const { pool, labelClass, delta } of changed) {
    if (tallies.every((tally) => delta[tally] >= 0)) continue;
    // Label classes may be unique to one run; keep no row for what is over.
    await tx.db
      .deleteFrom("tallies")
      .where("pool", "=", pool)
      .where("label_class", "=", labelClass)
      .where(sql<boolean>`waiting = 0 and booting = 0 and idle = 0 and busy = 0 and ending = 0`)
      .execute();
  }
}

const addToTotals = inserter(
  "totals",
  ["pool", ...tallies],
  `on conflict (pool) do update set ${sums("totals")}`,
);
/** A gap keeps its age for as long as it keeps its sign. */
const addToTallies = inserter(
  "tallies",
  ["pool", "label_class", ...tallies, "since"],
  `on conflict (pool, label_class) do update set ${sums("tallies")},
    since = case
      when sign(tallies.gap)
        = sign(tallies.gap + excluded.waiting - excluded.booting - excluded.idle)
      then tallies.since else excluded.since end`,
);

function sums(table: "tallies" | "totals"): string {
  return tallies.map((tally) => `${tally} = ${table}.${tally} + excluded.${tally}`).join(", ");
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
  const { rows } = await differences(tx.db, pool);
  for (const { label_class: labelClass, ...delta } of rows) {
    for (const tally of tallies) tx.deltas.add(pool, labelClass, tally, delta[tally]);
  }
  await mendTotal(tx.db, pool);
  return rows.length;
}

/**
 * What is counted less what is kept, only where they differ: the engine does the sums, for a pool
 * may have a hundred thousand classes.
 */
function differences(db: Kysely<Tables>, pool: string) {
  const states = (names: readonly string[]) =>
    sql`case when state in (${sql.join(names)}) then 1 else 0 end`;
  return sql<Delta & { label_class: string }>`
    select label_class, sum(waiting) as waiting, sum(booting) as booting, sum(idle) as idle,
      sum(busy) as busy, sum(ending) as ending
    from (
      select label_class, 1 as waiting, 0 as booting, 0 as idle, 0 as busy, 0 as ending
        from jobs where pool = ${pool} and state = 'waiting'
      union all
      select label_class, 0, ${states(["claimed", "asked"])}, ${states(["up"])},
        ${states(["started"])}, ${states(["ended"])}
        from runners where pool = ${pool} and state <> 'gone'
      union all
      select label_class, -waiting, -booting, -idle, -busy, -ending
        from tallies where pool = ${pool}
    ) as counted
    group by label_class
    having sum(waiting) <> 0 or sum(booting) <> 0 or sum(idle) <> 0 or sum(busy) <> 0
      or sum(ending) <> 0`.execute(db);
}

/** The total is the sum of the classes as they stand; the differences found are added with them. */
async function mendTotal(db: Kysely<Tables>, pool: string): Promise<void> {
  const total = await db
    .selectFrom("tallies")
    .select((is) =>
      tallies.map((tally) => is.fn.coalesce(is.fn.sum<number>(tally), sql<number>`0`).as(tally)),
    )
    .where("pool", "=", pool)
    .executeTakeFirstOrThrow();
  await db
    .insertInto("totals")
    .values({ pool, ...total })
    .onConflict((conflict) => conflict.column("pool").doUpdateSet(total))
    .execute();
}

function none(): Delta {
  return { waiting: 0, booting: 0, idle: 0, busy: 0, ending: 0 };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
