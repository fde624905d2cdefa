import type { Tx } from "./store.ts";

/** A setting of the installation, made by `make` the first time it is asked for. */
export async function settingOnce(tx: Tx, key: string, make: () => string): Promise<string> {
  await tx.db
    .insertInto("settings")
    .values({ key, value: make() })
    .onConflict((conflict) => conflict.column("key").doNothing())
    .execute();
  const row = await tx.db
    .selectFrom("settings")
    .select("value")
    .where("key", "=", key)
    .executeTakeFirstOrThrow();
  return row.value;
}
