import { costOf, isForward, type Runner, type RunnerState } from "../domain/runner.ts";
import { addFacts } from "./facts.ts";
import { inserter } from "./insert.ts";
import { checkLease, type Lease } from "./leases.ts";
import { poolTotal } from "./questions.ts";
import { toRunner } from "./rows.ts";
import type { RunnersTable } from "./schema.ts";
import type { Tx } from "./store.ts";
import { runnerTally } from "./tallies.ts";

/** What a claim decides; everything outside is derived from it. */
export type Claim = Pick<
  Runner,
  | "name"
  | "pool"
  | "forge"
  | "provider"
  | "labels"
  | "labelClass"
  | "size"
  | "price"
  | "reason"
  | "isOnDemand"
>;

const insertRunners = inserter("runners", [
  "name",
  "pool",
  "forge",
  "provider",
  "labels",
  "label_class",
  "size",
  "price",
  "state",
  "reason",
  "claimed_at",
  "born_at",
  "due_at",
  "on_demand",
  "tries",
  "cost_micro_usd",
]);

/**
 * Records claims before anything is asked of anybody, never beyond `max` runners alive in the pool
 * whatever was planned. Returns the names recorded. Throws `conflict` when the lease has passed on.
 * One such unit a pool at a time.
 */
export async function recordClaims(
  tx: Tx,
  lease: Lease,
  claims: readonly Claim[],
  max: number,
): Promise<readonly string[]> {
  await checkLease(tx, lease);
  const first = claims[0];
  if (first === undefined) return [];
  // From the kept total, so that a claim costs the same with ten thousand runners. Only the holder of
  // the pool's lease adds to it, one unit at a time; everybody else only lowers it.
  const { booting, idle, busy, ending } = await poolTotal(tx.db, first.pool);
  const room = max - (booting + idle + busy + ending);
  const taken = claims.slice(0, Math.max(0, room));
  if (taken.length === 0) return [];
  await insertRunners(
    tx,
    taken.map((claim) => claimRow(claim, tx.now)),
  );
  for (const claim of taken) {
    tx.deltas.add(claim.pool, claim.labelClass, runnerTally("claimed"), 1);
    tx.wake(`runner/${claim.name}`);
  }
  tx.wake(`pool/${first.pool}`);
  await addFacts(
    tx,
    taken.map(({ name, reason }) => ({
      subjectKind: "runner" as const,
      subject: name,
      kind: "claimed" as const,
      reason,
    })),
  );
  return taken.map((claim) => claim.name);
}

export interface Move {
  readonly reason: string;
  readonly job?: string;
  /** When the reconciler shall look next; now, when absent. */
  readonly dueAt?: number;
  /** The provider never made its machine, for certain: it costs nothing. */
  readonly isUnborn?: boolean;
}

const stamps: Record<RunnerState, keyof RunnersTable> = {
  claimed: "claimed_at",
  asked: "asked_at",
  up: "up_at",
  started: "started_at",
  ended: "ended_at",
  gone: "gone_at",
};

/**
 * Moves a runner forward. False when it is already there or further, or unknown: doubled and late
 * news change nothing. Once gone its cost is final: from being asked for until gone.
 */
export async function moveRunner(
  tx: Tx,
  name: string,
  to: RunnerState,
  move: Move,
): Promise<boolean> {
  const before = await readRunner(tx, name);
  if (before === null || !isForward(before.state, to)) return false;
  const changes: Partial<RunnersTable> = {
    state: to,
    reason: move.reason,
    tries: 0,
    due_at: to === "gone" ? null : (move.dueAt ?? tx.now),
    [stamps[to]]: tx.now,
  };
  if (move.job !== undefined) changes.job = move.job;
  if (move.isUnborn === true) changes.born_at = null;
  if (to === "gone") {
    changes.cost_micro_usd = costOf(before, tx.now);
  }
  await tx.db.updateTable("runners").set(changes).where("name", "=", name).execute();
  tx.deltas.move(before.pool, before.labelClass, runnerTally(before.state), runnerTally(to));
  tx.wake(`pool/${before.pool}`);
  tx.wake(`runner/${name}`);
  await addFacts(tx, [{ subjectKind: "runner", subject: name, kind: to, reason: move.reason }]);
  return true;
}

export function startRunner(tx: Tx, name: string, job: string): Promise<boolean> {
  return moveRunner(tx, name, "started", { reason: `took job ${job}`, job });
}

export function endRunner(tx: Tx, name: string, reason: string): Promise<boolean> {
  return moveRunner(tx, name, "ended", { reason });
}

/**
 * Lets a runner wait until `dueAt`, counting one more try when a call failed. `runner` is as it was
 * when that was decided: when it has moved on meanwhile, its new state has a time of its own.
 */
export async function postponeRunner(
  tx: Tx,
  runner: Pick<Runner, "name" | "state">,
  dueAt: number,
  failure: string | null,
): Promise<void> {
  const { numUpdatedRows } = await tx.db
    .updateTable("runners")
    .set((is) =>
      failure === null ? { due_at: dueAt } : { due_at: dueAt, tries: is("tries", "+", 1) },
    )
    .where("name", "=", runner.name)
    .where("state", "=", runner.state)
    .executeTakeFirst();
  if (failure === null || numUpdatedRows === 0n) return;
  await addFacts(tx, [
    { subjectKind: "runner", subject: runner.name, kind: "failed", reason: failure },
  ]);
}

/** Notes from when on its machine may exist; null: it surely does not. */
export async function setBirth(tx: Tx, name: string, bornAt: number | null): Promise<void> {
  await tx.db
    .updateTable("runners")
    .set({ born_at: bornAt })
    .where("name", "=", name)
    .where("state", "=", "claimed")
    .execute();
}

/** The runner as this transaction sees it, locked against the other replicas. */
export async function readRunner(tx: Tx, name: string): Promise<Runner | null> {
  let query = tx.db.selectFrom("runners").selectAll().where("name", "=", name);
  if (tx.engine === "postgres") query = query.forUpdate();
  const row = await query.executeTakeFirst();
  return row === undefined ? null : toRunner(row);
}

function claimRow(claim: Claim, now: number) {
  return {
    name: claim.name,
    pool: claim.pool,
    forge: claim.forge,
    provider: claim.provider,
    labels: JSON.stringify(claim.labels),
    label_class: claim.labelClass,
    size: JSON.stringify(claim.size),
    price: JSON.stringify(claim.price),
    state: "claimed" as const,
    reason: claim.reason,
    claimed_at: now,
    // Its machine is asked for at once; a manager that dies in between may have asked.
    born_at: now,
    due_at: now,
    on_demand: claim.isOnDemand === true ? 1 : null,
    tries: 0,
    cost_micro_usd: 0,
  };
}
