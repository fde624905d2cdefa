import { sql, type Kysely } from "kysely";

/** Who asked for a started job's end: its guest is told, and it is ended for it when it is deaf. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create table cancellations (job text primary key, at bigint not null, reason text not null)`.execute(
    db,
  );
  await sql`create index artifacts_by_content on artifacts (sha256)`.execute(db);
}
