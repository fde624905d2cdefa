import { sql, type Kysely } from "kysely";

/** When a forge's own runner was handed to a machine, and when its guest said that it is over. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table runners add column handed_at bigint`.execute(db);
  await sql`alter table runners add column finished_at bigint`.execute(db);
}
