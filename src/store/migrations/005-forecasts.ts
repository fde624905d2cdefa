import { sql, type Kysely } from "kysely";

/** What a pool has learned of when its jobs come; the jobs themselves tell the rest. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create table forecasts (pool text primary key, saved_at bigint not null, state text not null)`.execute(
    db,
  );
}
