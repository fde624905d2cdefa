import type { Size } from "./size.ts";
import type { TrustClass } from "./trust.ts";

/** A class of runners: where jobs come from, what they run on, and the limits. */
export interface Pool {
  readonly name: string;
  readonly forge: string;
  readonly provider: string;
  /** What its runners offer beside the sizes that a label may ask for. */
  readonly labels: readonly string[];
  /** The machine a job gets that asks for nothing. */
  readonly size: Size;
  /** The largest machine a label may ask for; null: the provider's own limit. */
  readonly maximum: Size | null;
  /** Patterns (`*` matches anything) a job's labels must, and must not, match. Empty: no rule. */
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  readonly accept: readonly TrustClass[];
  /** How many jobs of one repository, and of one owner's, the pool takes on at once. */
  readonly caps: Caps;
  /** Machines of this pool alive at once, never more. */
  readonly max: number;
  /** Machines alive at once, never fewer, waiting for a job or running one. */
  readonly min: number;
  /** Idle machines kept ready beside those that have a job. */
  readonly warm: number;
  /** Windows in which `warm` has another value; the first that holds now wins. */
  readonly schedule: readonly WarmWindow[];
  /** Keeps machines ready when jobs are likely to come, for as much as this; null: it does not. */
  readonly learn: WarmBudget | null;
  readonly image: string | null;
  /** False: a job whose machine its provider took back stays as it ended. */
  readonly reruns?: false;
  /** Whether a job's machine reaches the network. */
  readonly network: boolean;
  readonly bootDeadlineSeconds: number;
  readonly idleSeconds: number;
  readonly jobDeadlineSeconds: number;
}

/** Null: as many as there are. */
export interface Caps {
  readonly perRepository: number | null;
  readonly perOwner: number | null;
}

/** What machines kept ready by a forecast may cost in thirty days: machine-hours, or US dollars. */
export interface WarmBudget {
  readonly unit: "hours" | "usd";
  readonly amount: number;
}

/** `from` and `to` are minutes after midnight UTC; `to` below `from` runs past midnight. */
export interface WarmWindow {
  /** 0 is Sunday. Empty: every day. The day is that of the window's start. */
  readonly days: readonly number[];
  readonly from: number;
  readonly to: number;
  readonly warm: number;
}
