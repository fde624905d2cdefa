import { sql, type Kysely } from "kysely";

/** Since when a runner's machine may exist: what it costs must not depend on an answer that is lost. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table runners add column born_at bigint`.execute(db);
  await sql`
    update runners set born_at = claimed_at
    where asked_at is not null or up_at is not null or state = 'claimed'`.execute(db);
}
