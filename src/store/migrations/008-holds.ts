import { sql, type Kysely } from "kysely";

/** The pool that a job waits to come into, while its repository or owner has enough there. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table jobs add column held_pool text`.execute(db);
  await sql`create index jobs_held on jobs (held_pool, queued_at) where held_pool is not null`.execute(
    db,
  );
}
