import type { Tx } from "./store.ts";

interface Delivery {
  readonly forge: string;
  readonly id: string;
}

/**
 * Notes deliveries, and tells which had not been taken before. The same one twice in the list is
 * new once.
 */
export async function newDeliveries(
  tx: Tx,
  deliveries: readonly Delivery[],
): Promise<(delivery: Delivery) => boolean> {
  if (deliveries.length === 0) return () => false;
  const rows = await tx.db
    .insertInto("deliveries")
    .values(deliveries.map(({ forge, id }) => ({ forge, delivery: id, at: tx.now })))
    .onConflict((conflict) => conflict.columns(["forge", "delivery"]).doNothing())
    .returning(["forge", "delivery"])
    .execute();
  const fresh = new Set(rows.map(({ forge, delivery }) => `${forge} ${delivery}`));
  // Asking takes it: a second item with the same delivery is a repetition.
  return ({ forge, id }) => fresh.delete(`${forge} ${id}`);
}
