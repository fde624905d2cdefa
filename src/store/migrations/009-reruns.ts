import { sql, type Kysely } from "kysely";

/** Machines that their providers took back, and the jobs that are run again for it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table runners add column interrupted_at bigint`.execute(db);
  await sql`alter table runners add column on_demand integer`.execute(db);
  await sql`create index runners_interrupted on runners (interrupted_at) where interrupted_at is not null`.execute(
    db,
  );
  await sql`create table reruns (
    job text not null primary key, forge text not null, pool text, label_class text not null,
    state text not null, reason text not null, at bigint not null, asked_at bigint,
    next_at bigint not null, deadline_at bigint not null, tries integer not null, again text
  )`.execute(db);
  await sql`create index reruns_open on reruns (forge, next_at) where state in ('wanted', 'asking', 'asked')`.execute(
    db,
  );
}
