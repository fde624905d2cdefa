import { prepared } from "./prepared.ts";
import type { Database, Tx } from "./store.ts";

/** While `until` lies ahead, nothing new is asked of `subject` (`provider/box`, `pool/small`). */
export interface BackOff {
  readonly until: number;
  /** Failures in a row. */
  readonly failures: number;
  readonly reason: string;
}

export async function findBackOff(db: Database, subject: string): Promise<BackOff | null> {
  const [row] = await backOffOf(db, { subject });
  return row ?? null;
}

const backOffOf = prepared((db, { subject }: { subject: string }) =>
  db.selectFrom("back_offs").select(["until", "failures", "reason"]).where("subject", "=", subject),
);

/** Counts one more failure in a row; `untilAfter` says until when, given how many there were. */
export async function backOff(
  tx: Tx,
  subject: string,
  reason: string,
  untilAfter: (failures: number) => number,
): Promise<BackOff> {
  const before = await findBackOff(tx.db, subject);
  const failures = (before?.failures ?? 0) + 1;
  const next = { until: untilAfter(failures), failures, reason: reason.slice(0, 500) };
  await tx.db
    .insertInto("back_offs")
    .values({ subject, ...next })
    .onConflict((conflict) => conflict.column("subject").doUpdateSet(next))
    .execute();
  tx.wake(subject);
  return next;
}

/** It works again. */
export async function endBackOff(tx: Tx, subject: string): Promise<void> {
  const { numDeletedRows } = await tx.db
    .deleteFrom("back_offs")
    .where("subject", "=", subject)
    .executeTakeFirst();
  if (numDeletedRows > 0n) tx.wake(subject);
}
