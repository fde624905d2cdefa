import { sql } from "kysely";
import type { Arrivals } from "../domain/learner.ts";
import type { Database, Tx } from "./store.ts";

/** Jobs looked at in one question: what is beyond is not learned from, and nobody waits for it. */
const jobsMax = 5000;

/**
 * How many jobs a pool was queued in [from, to), by steps of `stepMs` that begin at its multiples,
 * and by label class. It is asked of the jobs themselves, so that events pay nothing for it.
 */
export async function arrivalsBetween(
  db: Database,
  pool: string,
  { from, to, stepMs }: { readonly from: number; readonly to: number; readonly stepMs: number },
): Promise<Arrivals[]> {
  // The pool is no bare column: the index by age finds the few jobs, the one by pool all of them.
  const { rows } = await sql<{ label_class: string; step: number; jobs: number }>`
    select label_class, step, count(*) as jobs from (
      select label_class, queued_at / cast(${stepMs} as bigint) as step from jobs
      where queued_at >= ${from} and queued_at < ${to} and coalesce(pool, '') = ${pool}
      order by queued_at limit ${sql.lit(jobsMax)}
    ) as told group by label_class, step`.execute(db);
  return rows.map((row) => ({
    labelClass: row.label_class,
    at: row.step * stepMs,
    count: row.jobs,
  }));
}

/** What `saveForecast` kept of a pool last, or null. */
export async function findForecast(db: Database, pool: string): Promise<string | null> {
  const row = await db
    .selectFrom("forecasts")
    .select("state")
    .where("pool", "=", pool)
    .executeTakeFirst();
  return row?.state ?? null;
}

/** One row a pool, whatever came. */
export async function saveForecast(tx: Tx, pool: string, state: string): Promise<void> {
  const kept = { saved_at: tx.now, state };
  await tx.db
    .insertInto("forecasts")
    .values({ pool, ...kept })
    .onConflict((conflict) => conflict.column("pool").doUpdateSet(kept))
    .execute();
}
