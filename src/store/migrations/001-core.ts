import { sql, type Kysely } from "kysely";
import type { Engine } from "../engine.ts";

/** The first tables. Migrations never change once released; later ones add to them. */
export async function up(db: Kysely<unknown>, engine: Engine): Promise<void> {
  const bytes = engine === "postgres" ? sql`bytea` : sql`blob`;
  const serial =
    engine === "postgres"
      ? sql`bigint generated always as identity primary key`
      : sql`integer primary key autoincrement`;

  for (const statement of [
    sql`create table jobs (
      id text primary key, forge text not null, external_id text not null,
      attempt integer not null, name text not null, repository text not null,
      labels text not null, label_class text not null, trust text not null,
      pool text, size text, state text not null, outcome text, reason text not null,
      runner text, url text, work text, queued_at bigint not null, seen_at bigint not null,
      started_at bigint, ended_at bigint, exit_code integer)`,
    sql`create index jobs_by_pool on jobs (pool, state, label_class, queued_at)`,
    sql`create index jobs_by_runner on jobs (runner) where runner is not null`,
    sql`create index jobs_by_age on jobs (queued_at)`,
    sql`create index jobs_by_state on jobs (state, queued_at)`,
    sql`create index jobs_by_end on jobs (ended_at)`,

    sql`create table runners (
      name text primary key, pool text not null, forge text not null, provider text not null,
      labels text not null, label_class text not null, size text not null, price text not null,
      state text not null, reason text not null, job text, redeemed text,
      claimed_at bigint not null, asked_at bigint, up_at bigint, started_at bigint,
      ended_at bigint, gone_at bigint, due_at bigint, tries integer not null,
      cost_micro_usd bigint not null)`,
    sql`create index runners_due on runners (pool, due_at)`,
    sql`create index runners_by_state on runners (pool, state, label_class)`,
    sql`create index runners_by_provider on runners (provider, state)`,
    sql`create index runners_by_age on runners (claimed_at)`,

    sql`create table facts (
      id ${serial}, at bigint not null, subject_kind text not null, subject text not null,
      kind text not null, reason text not null)`,
    sql`create index facts_by_subject on facts (subject, id)`,

    sql`create table tallies (
      pool text not null, label_class text not null, waiting integer not null,
      booting integer not null, idle integer not null, busy integer not null,
      ending integer not null, since bigint not null,
      gap integer generated always as (waiting - booting - idle) stored,
      primary key (pool, label_class))`,
    sql`create index tallies_wanting on tallies (pool, since) where gap > 0`,
    sql`create index tallies_surplus on tallies (pool, since) where gap < 0`,
    sql`create table totals (
      pool text primary key, waiting integer not null, booting integer not null,
      idle integer not null, busy integer not null, ending integer not null)`,

    sql`create table leases (
      resource text primary key, holder text not null, fence bigint not null,
      expires_at bigint not null)`,
    sql`create table back_offs (
      subject text primary key, failures integer not null, until bigint not null,
      reason text not null)`,
    sql`create table sightings (
      kind text not null, owner text not null, name text not null, first_at bigint not null,
      last_at bigint not null, times integer not null, primary key (kind, owner, name))`,
    sql`create table log_frames (
      job text not null, seq bigint not null, at bigint not null, stream text not null,
      bytes ${bytes} not null, primary key (job, seq))`,
    sql`create table artifacts (
      job text not null, path text not null, size bigint not null, sha256 text not null,
      at bigint not null, primary key (job, path))`,
    sql`create table settings (key text primary key, value text not null)`,
  ]) {
    await statement.execute(db);
  }
}
