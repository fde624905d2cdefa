import type { TrustClass } from "./trust.ts";

/** One machine lent by the broker to one run: an order has one for each architecture it asked for. */
export interface Loan {
  /** `LABEL.ARCHITECTURE`: a label has no dot. */
  readonly id: string;
  /** The job that stands for it in the fleet. */
  readonly job: string;
  readonly label: string;
  readonly architecture: string;
  /** Exactly what the workflow's `runs-on` says. */
  readonly labels: readonly string[];
  readonly labelClass: string;
  readonly pool: string;
  /** The forge whose run it is lent to. */
  readonly forge: string;
  readonly repository: string;
  readonly run: string;
  readonly attempt: number;
  /** False: its label does not name a run, and no job of this one has shown it yet. */
  readonly isConfirmed: boolean;
  readonly trust: TrustClass;
  /** The run's page. */
  readonly url: string | null;
  /** Who asked for it. */
  readonly address: string;
  readonly lentAt: number;
  /** When its runner was registered. */
  readonly readyAt: number | null;
  readonly overAt: number | null;
  /** Why it is over; empty before. */
  readonly reason: string;
  readonly reservedMicroUsd: number;
  /** What its machines cost, once they are gone. */
  readonly spentMicroUsd: number | null;
}

/** What the caps and the budget are held against. */
export interface LoanCounts {
  /** Machines that this attempt of the run has had, of the architectures asked for: the most. */
  readonly ofRun: number;
  readonly openOfRepository: number;
  readonly lastHourOfAddress: number;
  readonly lastHour: number;
  /** Of what was lent today (UTC): what it cost, or what is kept for it. */
  readonly todayMicroUsd: number;
}
