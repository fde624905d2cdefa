import type { Generated, GeneratedAlways, Selectable } from "kysely";
import type { FactKind, SubjectKind } from "../domain/fact.ts";
import type { JobOutcome, JobState } from "../domain/job.ts";
import type { RunnerState } from "../domain/runner.ts";
import type { TrustClass } from "../domain/trust.ts";

/*
 * Tables in the subset that SQLite and PostgreSQL share: text, integers, bytes. Structured values
 * are JSON text, read and written whole; nothing is ever queried inside them.
 */
export interface Tables {
  jobs: JobsTable;
  runners: RunnersTable;
  facts: FactsTable;
  tallies: TalliesTable;
  totals: TotalsTable;
  leases: { resource: string; holder: string; fence: number; expires_at: number };
  back_offs: { subject: string; failures: number; until: number; reason: string };
  sightings: {
    /** `machine`: seen, unclaimed. `missing`: claimed, unseen. `registration`: seen, unclaimed. */
    kind: string;
    owner: string;
    name: string;
    first_at: number;
    last_at: number;
    times: number;
  };
  log_frames: { job: string; seq: number; at: number; stream: string; bytes: Uint8Array };
  artifacts: { job: string; path: string; size: number; sha256: string; at: number };
  cancellations: { job: string; at: number; reason: string };
  reruns: RerunsTable;
  settings: { key: string; value: string };
  forecasts: { pool: string; saved_at: number; state: string };
  loans: LoansTable;
}

export interface JobsTable {
  id: string;
  forge: string;
  external_id: string;
  attempt: number;
  name: string;
  repository: string;
  labels: string;
  label_class: string;
  trust: TrustClass;
  pool: string | null;
  size: string | null;
  state: JobState;
  outcome: JobOutcome | null;
  reason: string;
  runner: string | null;
  url: string | null;
  work: string | null;
  queued_at: number;
  seen_at: number;
  started_at: number | null;
  ended_at: number | null;
  exit_code: number | null;
  /** Instead of `pool`, while it has no room there; null: it is not held. */
  held_pool: string | null;
}

export interface RunnersTable {
  name: string;
  pool: string;
  forge: string;
  provider: string;
  labels: string;
  label_class: string;
  size: string;
  price: string;
  state: RunnerState;
  reason: string;
  job: string | null;
  /** Digest of the nonce under which the guest redeemed its claim; null: not yet. */
  redeemed: string | null;
  claimed_at: number;
  born_at: number | null;
  asked_at: number | null;
  up_at: number | null;
  handed_at: number | null;
  started_at: number | null;
  finished_at: number | null;
  ended_at: number | null;
  gone_at: number | null;
  due_at: number | null;
  /** When its provider took its machine back, or said that it will. */
  interrupted_at: number | null;
  /** 1: no machine that may be taken back. */
  on_demand: number | null;
  tries: number;
  cost_micro_usd: number;
}

/** Jobs whose machine was taken back, with what became of the wish to run them again. */
export interface RerunsTable {
  job: string;
  forge: string;
  pool: string | null;
  label_class: string;
  /** `asking`: recorded before the forge is asked; nobody knows whether it was. */
  state: "wanted" | "asking" | "asked" | "done" | "given_up";
  reason: string;
  at: number;
  asked_at: number | null;
  next_at: number;
  deadline_at: number;
  tries: number;
  /** The attempt that runs instead. */
  again: string | null;
}

/** A machine lent by the broker: what its job and its runner do not say. */
export interface LoansTable {
  id: string;
  job: string;
  label: string;
  architecture: string;
  labels: string;
  label_class: string;
  pool: string;
  forge: string;
  repository: string;
  run: string;
  attempt: number;
  /** 0: the label does not name its run, and no job of this run has shown it yet. */
  is_confirmed: number;
  trust: TrustClass;
  url: string | null;
  address: string;
  lent_at: number;
  ready_at: number | null;
  over_at: number | null;
  reason: string;
  reserved_micro_usd: number;
  /** Null: still to be counted. */
  spent_micro_usd: number | null;
}

export interface FactsTable {
  id: Generated<number>;
  at: number;
  subject_kind: SubjectKind;
  subject: string;
  kind: FactKind;
  reason: string;
}

/** Counts kept in the same transaction as the change they count, so that planning reads few rows. */
interface Counts {
  pool: string;
  waiting: number;
  booting: number;
  idle: number;
  busy: number;
  ending: number;
}

export interface TalliesTable extends Counts {
  label_class: string;
  /** waiting - booting - idle, by the engine: above 0 it wants machines, below it has too many. */
  gap: GeneratedAlways<number>;
  /** When `gap` last changed its sign. */
  since: number;
}

export type TotalsTable = Counts;

export type JobRow = Selectable<JobsTable>;
export type RunnerRow = Selectable<RunnersTable>;
export type LoanRow = Selectable<LoansTable>;
export type FactRow = Selectable<FactsTable>;
