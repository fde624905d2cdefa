import { runnerLog } from "./logs.ts";
import type { Store } from "./store.ts";

const dayMs = 24 * 3600 * 1000;

/** How long what is over stays readable. */
const retentionMs = {
  jobs: 90 * dayMs,
  runners: 90 * dayMs,
  logs: 30 * dayMs,
  forecasts: 90 * dayMs,
} as const;

/** Rows removed in one unit: nobody else waits long. */
const atOnce = 500;

/** Removes what is over and older than its retention, with its history and its log. */
export async function prune(store: Store, now: number): Promise<void> {
  while ((await pruneJobs(store, now)) === atOnce);
  while ((await pruneRunners(store, now)) === atOnce);
  while ((await pruneLogs(store, now)) === atOnce);
  await store.write(({ db }) =>
    db
      .deleteFrom("loans")
      .where("over_at", "<", now - retentionMs.jobs)
      .execute(),
  );
  // Of pools that are no longer configured, or no longer learn.
  await store.write(({ db }) =>
    db
      .deleteFrom("forecasts")
      .where("saved_at", "<", now - retentionMs.forecasts)
      .execute(),
  );
}

function pruneJobs(store: Store, now: number): Promise<number> {
  return store.write(async ({ db }) => {
    const rows = await db
      .selectFrom("jobs")
      .select("id")
      .where("queued_at", "<", now - retentionMs.jobs)
      .where("state", "=", "ended")
      .limit(atOnce)
      .execute();
    const ids = rows.map(({ id }) => id);
    if (ids.length === 0) return 0;
    await db.deleteFrom("log_frames").where("job", "in", ids).execute();
    await db.deleteFrom("artifacts").where("job", "in", ids).execute();
    await db.deleteFrom("facts").where("subject", "in", ids).execute();
    await db.deleteFrom("reruns").where("job", "in", ids).execute();
    await db.deleteFrom("jobs").where("id", "in", ids).execute();
    return ids.length;
  });
}

function pruneRunners(store: Store, now: number): Promise<number> {
  return store.write(async ({ db }) => {
    const rows = await db
      .selectFrom("runners")
      .select("name")
      .where("claimed_at", "<", now - retentionMs.runners)
      .where("state", "=", "gone")
      .limit(atOnce)
      .execute();
    const names = rows.map(({ name }) => name);
    if (names.length === 0) return 0;
    await db.deleteFrom("log_frames").where("job", "in", names.map(runnerLog)).execute();
    await db.deleteFrom("facts").where("subject", "in", names).execute();
    await db.deleteFrom("runners").where("name", "in", names).execute();
    return names.length;
  });
}

function pruneLogs(store: Store, now: number): Promise<number> {
  return store.write(async ({ db }) => {
    const rows = await db
      .selectFrom("jobs")
      .innerJoin("log_frames", "log_frames.job", "jobs.id")
      .select("jobs.id")
      .distinct()
      .where("jobs.queued_at", "<", now - retentionMs.logs)
      .where("jobs.state", "=", "ended")
      .limit(atOnce)
      .execute();
    const ids = rows.map(({ id }) => id);
    if (ids.length > 0) await db.deleteFrom("log_frames").where("job", "in", ids).execute();
    return ids.length;
  });
}
