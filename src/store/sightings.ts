import type { Tx } from "./store.ts";

/**
 * What a sweep found amiss: `stray-machine` and `stray-registration` belong to nobody; `missing`
 * and `exited` machines should be running; a `missing-job` is not over, but its forge's poll does not
 * show it. One sighting proves nothing: lists lag.
 */
export type SightingKind =
  "stray-machine" | "stray-registration" | "missing" | "exited" | "missing-job";

/**
 * Notes what this sweep of `owner` saw, forgets what it no longer sees, and returns the names seen
 * at least twice in a row, the first time at least `minAgeMs` ago.
 */
export async function seeAgain(
  tx: Tx,
  kind: SightingKind,
  owner: string,
  names: readonly string[],
  minAgeMs: number,
): Promise<readonly string[]> {
  const known = await tx.db
    .selectFrom("sightings")
    .select(["name", "first_at", "times"])
    .where("kind", "=", kind)
    .where("owner", "=", owner)
    .execute();
  const before = new Map(known.map((row) => [row.name, row]));
  await tx.db.deleteFrom("sightings").where("kind", "=", kind).where("owner", "=", owner).execute();
  const rows = [...new Set(names)].map((name) => {
    const seen = before.get(name);
    return {
      kind,
      owner,
      name,
      first_at: seen?.first_at ?? tx.now,
      last_at: tx.now,
      times: (seen?.times ?? 0) + 1,
    };
  });
  for (let from = 0; from < rows.length; from += 500) {
    await tx.db
      .insertInto("sightings")
      .values(rows.slice(from, from + 500))
      .execute();
  }
  return rows
    .filter(({ times, first_at: firstAt }) => times >= 2 && tx.now - firstAt >= minAgeMs)
    .map(({ name }) => name);
}
