import type { Instance } from "@aws-sdk/client-ec2";
import type { Machine } from "../provider.ts";

/** The tags by which a machine is known again; also whose it is and how long it may live. */
export const tags = {
  installation: "mayfly:installation",
  machine: "mayfly:machine",
  /** Seconds from its launch: an absolute time would make a repeated request another one. */
  deadlineSeconds: "mayfly:deadline-seconds",
} as const;

/** An instance as we need it, with bounds on nothing but what we read. */
export interface Seen {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly launchedAt: number;
  readonly deadlineSeconds: number | null;
  readonly isSpot: boolean;
  readonly type: string;
  readonly subnet: string;
  /** The account that launched it. */
  readonly account: string;
  /** Why it is in its state: `Server.SpotInstanceTermination`. */
  readonly reason: string;
}

/** Null for one without an id or the tag of a name. */
export function seenOf(instance: Instance, account: string | undefined): Seen | null {
  const byKey = new Map(instance.Tags?.map(({ Key, Value }) => [Key, Value]));
  const name = byKey.get(tags.machine);
  if (instance.InstanceId === undefined || name === undefined) return null;
  const deadline = Number.parseInt(byKey.get(tags.deadlineSeconds) ?? "", 10);
  return {
    id: instance.InstanceId,
    name,
    state: instance.State?.Name ?? "pending",
    launchedAt: instance.LaunchTime?.getTime() ?? 0,
    deadlineSeconds: Number.isFinite(deadline) ? deadline : null,
    isSpot: instance.InstanceLifecycle === "spot",
    type: instance.InstanceType ?? "",
    subnet: instance.SubnetId ?? "",
    account: account ?? "",
    reason: instance.StateReason?.Code ?? "",
  };
}

const ends: Readonly<Record<string, string>> = {
  "Server.SpotInstanceTermination": "EC2 took its spot capacity back",
  "Server.SpotInstanceShutdown": "EC2 took its spot capacity back",
  "Server.InsufficientInstanceCapacity": "EC2 had no capacity to start it",
  "Server.InternalError": "EC2 failed to start it",
  "Client.InternalError": "its disk could not be made: the key it is encrypted with, perhaps",
  "Client.VolumeLimitExceeded": "the account's limit on disks is reached",
};

/** What EC2 took back, rather than what ended by itself. */
export function isInterruption({ reason }: Seen): boolean {
  return reason === "Server.SpotInstanceTermination" || reason === "Server.SpotInstanceShutdown";
}

/** True when nothing of it is left that runs or costs. EC2 shows it for about an hour more. */
export function isOver({ state }: Seen): boolean {
  return state === "terminated";
}

/** Ended by a call of ours or of another manager, so nobody waits to hear of it. */
export function isDismissed(seen: Seen): boolean {
  return isOver(seen) && seen.reason === "Client.UserInitiatedShutdown";
}

export function machineOf(seen: Seen): Machine {
  const { name, id, state, launchedAt, reason } = seen;
  const machine = { name, handle: id, createdAt: launchedAt, exitCode: null };
  if (state === "pending") return { ...machine, state: "booting" };
  if (state === "running") return { ...machine, state: "running" };
  const end = Object.hasOwn(ends, reason) ? ends[reason] : undefined;
  return {
    ...machine,
    state: "ended",
    ...(end === undefined ? {} : { end }),
    ...(isInterruption(seen) ? { isInterrupted: true } : {}),
  };
}

/**
 * The one of a name's instances that is its machine: alive before over, and of those the first.
 * Every manager chooses the same.
 */
export function chosen(instances: readonly Seen[]): Seen | undefined {
  const rank = (seen: Seen): number => (isOver(seen) ? 2 : isEnding(seen) ? 1 : 0);
  return [...instances].sort(
    (a, b) => rank(a) - rank(b) || a.launchedAt - b.launchedAt || (a.id < b.id ? -1 : 1),
  )[0];
}

/** On its way out, or out. */
export function isEnding({ state }: Seen): boolean {
  return state !== "pending" && state !== "running";
}
