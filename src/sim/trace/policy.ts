import type { PoolTotal } from "../../domain/planner.ts";
import type { Pool } from "../../domain/pool.ts";
import type { ProviderModel } from "./setting.ts";

/*
 * What a fleet manager is, to the simulation of a trace: something that looks at one pool and
 * starts and stops machines. Everything else (which job a machine gets, how long it boots, what it
 * costs) is the engine's and the same for all, so that only the decisions differ.
 */

export interface Policy {
  /** As `--policies` and the tables call it: `[a-z0-9-]+`. */
  readonly name: string;
  /** One sentence for people: what it does. */
  readonly about: string;
  /** Where its rules are taken from: a version, and the files or pages. */
  readonly source: string;
  /** What of the original the model leaves out or assumes, a sentence each. Shown in reports. */
  readonly assumptions: readonly string[];
  /** The policy for one pool. Called once a pool and run; what it remembers, it remembers here. */
  open(pool: Pool, provider: ProviderModel): PoolPolicy;
}

export interface PoolPolicy {
  readonly machine: MachineShape;
  /**
   * Called at the start, at the time that it asked for, and (where `wakesOn` says so) after all that
   * happened at one moment. Twice in a moment is possible and must do no harm.
   */
  decide(view: PolicyView): Decision;
  readonly wakesOn: Wakes;
}

/** What makes `decide` be called before the time it asked for. */
export interface Wakes {
  /** A job was queued. */
  readonly queued: boolean;
  /** A machine came up, or is gone. */
  readonly machines: boolean;
  /** A job started or ended. */
  readonly jobs: boolean;
}

export const always: Wakes = { queued: true, machines: true, jobs: true };
/** Only at the times that it asks for, as a loop or a cron does. */
export const never: Wakes = { queued: false, machines: false, jobs: false };

export interface MachineShape {
  /** Jobs that a machine runs in its life, after which it ends by itself; Infinity: until stopped. */
  readonly jobsPerMachine: number;
  /** Jobs that it runs at once. */
  readonly slots: number;
}

export const oneJob: MachineShape = { jobsPerMachine: 1, slots: 1 };

export interface Decision {
  readonly actions: readonly PolicyAction[];
  /** Call again at this moment (ms) at the latest; Infinity: only when something wakes it. */
  readonly nextAt: number;
}

export type PolicyAction =
  | {
      readonly kind: "start";
      readonly count: number;
      /**
       * The label class whose labels the machines register with: they take the jobs that the
       * forge's rule lets them. Null: a machine of the pool, which takes every job placed there.
       * The engine starts no more than the pool's `max` leaves room for.
       */
      readonly labelClass: string | null;
    }
  /** Ends a machine that boots or idles. One that runs a job is let finish, as by `drain`. */
  | { readonly kind: "stop"; readonly machine: number }
  /** Gives it no further job; it ends when it runs none. */
  | { readonly kind: "drain"; readonly machine: number };

/** The pool as it stands. It is the engine's own and changes after `decide` returns: keep no part. */
export interface PolicyView {
  readonly pool: Pool;
  /** ms since the epoch. */
  readonly now: number;
  /** Jobs waiting and machines by state; a machine that runs at least one job is busy. */
  readonly total: PoolTotal;
  /** Jobs that could start at once on machines that are up and take jobs. */
  readonly freeSlots: number;
  /** When the longest waiting job was queued; null: none waits. */
  readonly oldestQueuedAt: number | null;
  /** Counts since the beginning, which never fall: the difference to the last call is the news. */
  readonly ever: {
    readonly queued: number;
    readonly started: number;
    readonly ended: number;
  };
  /** Jobs queued since this was last asked, by label class: for those who learn from them. */
  newlyQueued(): ReadonlyMap<string, number>;
  /**
   * Classes with more jobs waiting than machines booting and idle, and those with fewer, by how long
   * they have been so, longest first, at most `limit`. Machines of the pool itself (class null)
   * count for none. Null-class policies can do without.
   */
  wanting(limit: number): readonly ClassView[];
  surplus(limit: number): readonly ClassView[];
  /** One class, by its key; null: nothing of it waits or lives. */
  ofClass(labelClass: string): ClassView | null;
  /**
   * Machines alive and not ending: those of a state (and of a class, null being the pool's own) in
   * the order in which they came into it, so the longest idle first; without a state the booting
   * ones, then the idle, then the busy. Costs what it yields: leave off when you have enough.
   */
  machines(state?: MachineState, labelClass?: string | null): Iterable<MachineView>;
}

export interface ClassView {
  readonly labelClass: string;
  readonly waiting: number;
  readonly booting: number;
  readonly idle: number;
  readonly busy: number;
  /** Since when it has wanted machines, or has had too many (ms). */
  readonly since: number;
}

/** `booting` until it is up; `idle` while it runs no job; `busy` while it runs one or more. */
export type MachineState = "booting" | "idle" | "busy";

export interface MachineView {
  readonly id: number;
  readonly labelClass: string | null;
  readonly state: MachineState;
  readonly isDraining: boolean;
  readonly startedAt: number;
  /** Null: it boots. */
  readonly upAt: number | null;
  /** Since when it runs no job, ms; null: it boots or is busy. */
  readonly idleSince: number | null;
  /** Jobs it runs now, and has run to their end. */
  readonly running: number;
  readonly done: number;
}
