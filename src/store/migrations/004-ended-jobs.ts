import { sql, type Kysely } from "kysely";

/** Only jobs that ended are looked for by their end: a new job need not be entered there. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`drop index jobs_by_end`.execute(db);
  await sql`create index jobs_by_end on jobs (ended_at) where ended_at is not null`.execute(db);
}
