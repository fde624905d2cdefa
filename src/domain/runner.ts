import { cost, type Price } from "./money.ts";
import type { Size } from "./size.ts";

/**
 * A runner and its machine share one name and one life, so they are one record. Its states, in
 * their only direction:
 * - `claimed` recorded, nothing asked of anybody yet
 * - `asked` the provider accepted it; it boots
 * - `up` it reported, or the forge shows it registered; it waits for its job
 * - `started` it runs its one job
 * - `ended` no longer wanted; registration and machine are being removed
 * - `gone` both confirmed removed; its cost is final
 */
export const runnerStates = ["claimed", "asked", "up", "started", "ended", "gone"] as const;
export type RunnerState = (typeof runnerStates)[number];

export interface Runner {
  /** `<installation>-<pool>-<random>`: the machine, the registration and the claim all bear it. */
  readonly name: string;
  readonly pool: string;
  readonly forge: string;
  readonly provider: string;
  /** Exactly the labels of the job class it was made for. */
  readonly labels: readonly string[];
  readonly labelClass: string;
  readonly size: Size;
  readonly price: Price;
  readonly state: RunnerState;
  /** Why it is in this state, in words. */
  readonly reason: string;
  readonly job: string | null;
  readonly claimedAt: number;
  /** Since when its machine may exist and cost, asked for or not; null: it surely does not. */
  readonly bornAt: number | null;
  readonly askedAt: number | null;
  readonly upAt: number | null;
  /** When its machine was given its forge's own runner to run; null: not, or jobs come otherwise. */
  readonly handedAt: number | null;
  /** When its job began; after `endedAt`, when it got one as its end was decided. */
  readonly startedAt: number | null;
  /** When its guest said that the forge's runner is over. */
  readonly finishedAt: number | null;
  readonly endedAt: number | null;
  readonly goneAt: number | null;
  /** When the reconciler looks at it next: a retry or a deadline. Null once gone. */
  readonly dueAt: number | null;
  /** Failed calls in the present state. */
  readonly tries: number;
  /** Its machine is one that no provider takes back. */
  readonly isOnDemand?: true;
  /** Final once gone. */
  readonly costMicroUsd: number;
}

/** True when `to` lies ahead of `from`; states only move forward. */
export function isForward(from: RunnerState, to: RunnerState): boolean {
  return runnerStates.indexOf(to) > runnerStates.indexOf(from);
}

/** What its machine has cost until `until` (ms), in micro-dollars: from the moment it may exist. */
export function costOf({ price, bornAt }: Pick<Runner, "price" | "bornAt">, until: number): number {
  return bornAt === null ? 0 : cost(price, bornAt, until);
}
