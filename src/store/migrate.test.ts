import assert from "node:assert/strict";
import { test } from "node:test";
import { sql, type Kysely } from "kysely";
import { MayflyError } from "../domain/errors.ts";
import { placed, sampleClaim, sampleSighting } from "../../test/samples.ts";
import { HandClock, onBothEngines } from "../../test/stores.ts";
import { saveForecast } from "./arrivals.ts";
import { addFacts } from "./facts.ts";
import { recordSightings } from "./jobs.ts";
import { takeLease } from "./leases.ts";
import { appendLog } from "./logs.ts";
import { migrate, migrations } from "./migrate.ts";
import { recordClaims } from "./runners.ts";
import type { Store } from "./store.ts";

/** A row in every table that a released schema has. */
async function seed(store: Store): Promise<void> {
  await store.write(async (tx) => {
    await recordSightings(tx, [placed(sampleSighting())]);
    const lease = await takeLease(tx, "pool/small", "me", 60_000);
    assert.ok(lease);
    await recordClaims(tx, lease, [sampleClaim("m-small-a")], 10);
    await addFacts(tx, [{ subjectKind: "pool", subject: "small", kind: "noted", reason: "r" }]);
    await saveForecast(tx, "small", "learned");
    await appendLog(tx, "acme-1", [{ seq: 0, at: 1, stream: "stdout", bytes: Buffer.from("x") }]);
  });
}

async function rows(store: Store): Promise<unknown> {
  const read = async (
    table: "jobs" | "runners" | "facts" | "tallies" | "log_frames" | "forecasts",
  ) => (await store.db.selectFrom(table).selectAll().execute()).map((row) => ({ ...row }));
  return {
    jobs: await read("jobs"),
    runners: await read("runners"),
    facts: await read("facts"),
    tallies: await read("tallies"),
    frames: await read("log_frames"),
    forecasts: await read("forecasts"),
  };
}

onBothEngines("migrations", (under) => {
  const untyped = (store: Store) => store.db as unknown as Kysely<unknown>;

  test("run again on a database with rows change nothing", async () => {
    const store = await under.open(new HandClock());
    await seed(store);
    const before = await rows(store);
    await migrate(untyped(store), store.engine);
    assert.deepEqual(await rows(store), before);
  });

  test("a later step meets the rows of the earlier ones", async () => {
    const store = await under.open(new HandClock());
    await seed(store);
    const later = {
      up: async (db: Kysely<unknown>) => {
        await sql`alter table jobs add column colour text not null default 'grey'`.execute(db);
        await sql`update jobs set colour = 'blue' where state = 'waiting'`.execute(db);
      },
    };
    await migrate(untyped(store), store.engine, { ...migrations, "999-colour": later });
    const { rows: read } = await sql<{ colour: string }>`select colour from jobs`.execute(store.db);
    assert.deepEqual(
      read.map(({ colour }) => colour),
      ["blue"],
    );
  });

  test("a step that fails leaves everything as it was", async () => {
    const store = await under.open(new HandClock());
    await seed(store);
    const before = await rows(store);
    const broken = {
      up: async (db: Kysely<unknown>) => {
        await sql`delete from jobs`.execute(db);
        await sql`this is no sql`.execute(db);
      },
    };
    await assert.rejects(
      migrate(untyped(store), store.engine, { ...migrations, "999-broken": broken }),
      (error) => error instanceof MayflyError && error.code === "unavailable",
    );
    assert.deepEqual(await rows(store), before);
  });

  test("a database of a newer version is refused with what to do", async () => {
    const store = await under.open(new HandClock());
    const newer = { up: async () => {} };
    await migrate(untyped(store), store.engine, { ...migrations, "999-newer": newer });
    await assert.rejects(
      migrate(untyped(store), store.engine),
      (error) => error instanceof MayflyError && /newer Mayfly/.test(error.hint ?? ""),
    );
  });
});
