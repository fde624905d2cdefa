import { sql } from "kysely";
import { MayflyError } from "../domain/errors.ts";
import { serverNow } from "./postgres.ts";
import { prepared } from "./prepared.ts";
import type { Database, Tx } from "./store.ts";

/** The right to act for one resource (`pool/small`, `provider/box`, `forge/acme`), for a while. */
export interface Lease {
  readonly resource: string;
  readonly holder: string;
  /** Grows with every change of holder: a holder that slept through its lease is told apart. */
  readonly fence: number;
}

/**
 * Takes or renews the lease on `resource` for `ttlMs`, or null while another holds it. Time is the
 * database's where there is a server, so that replicas' clocks need not agree.
 */
export async function takeLease(
  tx: Tx,
  resource: string,
  holder: string,
  ttlMs: number,
): Promise<Lease | null> {
  const now = await leaseNow(tx);
  const present = await tx.db
    .selectFrom("leases")
    .select(["holder", "expires_at"])
    .where("resource", "=", resource)
    .executeTakeFirst();
  // Looked at before it is locked: those who wait for a lease must not disturb its holder.
  if (present !== undefined && present.holder !== holder && present.expires_at > now) return null;
  const row = await tx.db
    .insertInto("leases")
    .values({ resource, holder, fence: 1, expires_at: now + ttlMs })
    .onConflict((conflict) =>
      conflict
        .column("resource")
        .doUpdateSet({
          holder,
          expires_at: now + ttlMs,
          fence: sql<number>`case when leases.holder = excluded.holder then leases.fence else leases.fence + 1 end`,
        })
        .where((is) =>
          is.or([is("leases.holder", "=", holder), is("leases.expires_at", "<=", now)]),
        ),
    )
    .returning("fence")
    .executeTakeFirst();
  return row === undefined ? null : { resource, holder, fence: row.fence };
}

/** Gives the lease back early, so that another need not wait for its end. */
export async function releaseLease(tx: Tx, lease: Lease): Promise<void> {
  await tx.db
    .updateTable("leases")
    .set({ expires_at: 0 })
    .where("resource", "=", lease.resource)
    .where("holder", "=", lease.holder)
    .where("fence", "=", lease.fence)
    .execute();
  tx.wake(`lease/${lease.resource}`);
}

/** Takes a lease's row away: of a resource that there will never be again. */
export async function removeLease(tx: Tx, resource: string): Promise<void> {
  await tx.db.deleteFrom("leases").where("resource", "=", resource).execute();
  tx.wake(`lease/${resource}`);
}

export interface BoardEntry {
  readonly holder: string;
  /** Milliseconds until it runs out unless renewed; 0 or less: it is free. */
  readonly leftMs: number;
}

/** All leases by resource, by the clock that they are kept by. */
export async function leaseBoard(tx: Tx): Promise<ReadonlyMap<string, BoardEntry>> {
  const now = await leaseNow(tx);
  const rows = await tx.db
    .selectFrom("leases")
    .select(["resource", "holder", "expires_at"])
    .execute();
  return new Map(
    rows.map(({ resource, holder, expires_at: end }) => [resource, { holder, leftMs: end - now }]),
  );
}

/** Replicas' names are new at each start: rows of old ones are only good for looking at. */
const replicaRowsMs = 3600_000;

/**
 * Ends every lease on an embedded store: whoever held one is dead, for the folder is ours alone. A
 * manager that was killed is so back at work at once. On a server, forgets replicas long dead.
 */
export async function endLeasesOfTheDead(tx: Tx): Promise<void> {
  const isEmbedded = tx.engine === "sqlite";
  if (isEmbedded) await tx.db.updateTable("leases").set({ expires_at: 0 }).execute();
  await tx.db
    .deleteFrom("leases")
    .where("resource", "like", "replica/%")
    .where("expires_at", "<=", isEmbedded ? 0 : (await leaseNow(tx)) - replicaRowsMs)
    .execute();
}

/**
 * Throws `conflict` unless the lease is still ours; call it first in every unit that acts for the
 * resource. The row stays locked until the commit, so nobody takes over in between.
 */
export async function checkLease(tx: Tx, lease: Lease): Promise<void> {
  const { resource, holder, fence } = lease;
  const held = await heldLease[tx.engine](tx.db, {
    resource,
    holder,
    fence,
    now: await leaseNow(tx),
  });
  if (held.length > 0) return;
  throw new MayflyError("conflict", `the lease on ${resource} has passed to another replica`);
}

const selectHeld = (db: Database, lease: Lease & { readonly now: number }) =>
  db
    .selectFrom("leases")
    .select("fence")
    .where("resource", "=", lease.resource)
    .where("holder", "=", lease.holder)
    .where("fence", "=", lease.fence)
    .where("expires_at", ">", lease.now);

const heldLease = {
  sqlite: prepared(selectHeld),
  postgres: prepared((db, lease: Lease & { now: number }) => selectHeld(db, lease).forUpdate()),
};

async function leaseNow(tx: Tx): Promise<number> {
  return tx.engine === "sqlite" ? tx.now : ((await serverNow(tx.db)) ?? tx.now);
}
