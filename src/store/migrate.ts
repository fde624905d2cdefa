import { Migrator, type MigrationProvider } from "kysely/migration";
import type { Kysely } from "kysely";
import type { Engine } from "./engine.ts";
import { MayflyError } from "../domain/errors.ts";
import * as core from "./migrations/001-core.ts";
import * as cancellations from "./migrations/002-cancellations.ts";
import * as births from "./migrations/003-births.ts";
import * as endedJobs from "./migrations/004-ended-jobs.ts";
import * as forecasts from "./migrations/005-forecasts.ts";
import * as handOvers from "./migrations/007-hand-overs.ts";
import * as holds from "./migrations/008-holds.ts";
import * as reruns from "./migrations/009-reruns.ts";
import * as loans from "./migrations/010-loans.ts";

type Step = { up: (db: Kysely<unknown>, engine: Engine) => Promise<void> };

/** In order; a released one is never edited. */
export const migrations: Readonly<Record<string, Step>> = {
  "001-core": core,
  "002-cancellations": cancellations,
  "003-births": births,
  "004-ended-jobs": endedJobs,
  "005-forecasts": forecasts,
  "007-hand-overs": handOvers,
  "008-holds": holds,
  "009-reruns": reruns,
  "010-loans": loans,
};

/**
 * Brings the database to the newest schema, or to `target` (tests). Safe when several replicas
 * start at once: Kysely holds a lock in the database. Throws `unavailable` when a step fails, or
 * when the database was written by a newer Mayfly.
 */
export async function migrate(
  db: Kysely<unknown>,
  engine: Engine,
  steps: Readonly<Record<string, Step>> = migrations,
): Promise<void> {
  const provider: MigrationProvider = {
    getMigrations: () =>
      Promise.resolve(
        Object.fromEntries(
          Object.entries(steps).map(([name, step]) => [
            name,
            { up: (handle: Kysely<unknown>) => step.up(handle, engine) },
          ]),
        ),
      ),
  };
  const { error } = await new Migrator({ db, provider }).migrateToLatest();
  if (error === undefined) return;
  const detail = error instanceof Error ? error.message : "for a reason it did not say";
  throw new MayflyError("unavailable", `the store could not be migrated: ${detail}`, {
    hint: detail.includes("missing")
      ? "A newer Mayfly wrote this state: start that version, or give another --state."
      : "Nothing was changed; the state is as it was.",
  });
}
