import { sql, type Kysely } from "kysely";

/** Machines lent by the broker, each with the run that it was lent to. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create table loans (
    id text primary key,
    job text not null,
    label text not null,
    architecture text not null,
    labels text not null,
    label_class text not null,
    pool text not null,
    forge text not null,
    repository text not null,
    run text not null,
    attempt integer not null,
    is_confirmed integer not null,
    trust text not null,
    url text,
    address text not null,
    lent_at bigint not null,
    ready_at bigint,
    over_at bigint,
    reason text not null,
    reserved_micro_usd bigint not null,
    spent_micro_usd bigint
  )`.execute(db);
  await sql`create index loans_label on loans (label)`.execute(db);
  await sql`create index loans_run on loans (repository, run)`.execute(db);
  await sql`create index loans_lent on loans (lent_at)`.execute(db);
  await sql`create index loans_class on loans (pool, label_class)`.execute(db);
  await sql`create index loans_open on loans (lent_at) where over_at is null`.execute(db);
  await sql`create index loans_unspent on loans (over_at) where spent_micro_usd is null and over_at is not null`.execute(
    db,
  );
}
