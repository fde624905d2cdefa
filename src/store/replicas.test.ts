import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { sql } from "kysely";
import pg from "pg";
import { Proxy } from "../../test/replicas/proxy.ts";
import { postgresMissing, startPostgres, type TestPostgres } from "../../test/postgres.ts";
import { HandClock, onBothEngines } from "../../test/stores.ts";
import { sampleClaim } from "../../test/samples.ts";
import { redeemClaim } from "./guest.ts";
import { endLeasesOfTheDead, leaseBoard, takeLease, type Lease } from "./leases.ts";
import { endRunner, recordClaims } from "./runners.ts";
import { settingOnce } from "./settings.ts";
import { Store } from "./store.ts";

const hourMs = 3600_000;

/** Waits for a condition, at most 100 s. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 100_000;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe("replicas' stores on one PostgreSQL", { skip: postgresMissing ?? false }, () => {
  let server: TestPostgres;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server.stop());

  test("a lease lasts by the server's clock, however wrong those of its holders are", async (t) => {
    const url = await server.newDatabase();
    const stores = await Promise.all(
      [-hourMs, 0, hourMs].map((skew) =>
        Store.open({ engine: "postgres", url }, () => Date.now() + skew),
      ),
    );
    t.after(() => Promise.all(stores.map((store) => store.close())));
    const take = (store: Store | undefined, ttlMs: number): Promise<Lease | null> =>
      store!.write((tx) => takeLease(tx, "pool/one", `${stores.indexOf(store!)}`, ttlMs));
    const [behind, right, ahead] = stores;
    const longMs = hourMs / 6;
    assert.equal((await take(behind, longMs))?.holder, "0");
    assert.equal(await take(ahead, 1_000), null);
    assert.equal(await take(right, 1_000), null);
    // Renewed for a moment only.
    assert.equal((await take(behind, 1_000))?.fence, 1);
    await until("it has run out", async () => (await take(ahead, longMs)) !== null);
    assert.equal(await take(behind, 1_000), null);
    const [entry] = await behind!.write(async (tx) => [...(await leaseBoard(tx)).values()]);
    assert.ok(entry !== undefined && entry.leftMs > longMs / 2 && entry.leftMs <= longMs);
  });

  test("a store brought into line writes under the server's time", async (t) => {
    const url = await server.newDatabase();
    const store = await Store.open({ engine: "postgres", url }, () => Date.now() - hourMs);
    t.after(() => store.close());
    await store.alignClock();
    const before = Date.now();
    const written = await store.write(async (tx) => tx.now);
    // The server is on this host: what is left is how long question and answer took, minutes at most.
    assert.ok(Math.abs(written - before) < hourMs / 6, `${written - before} ms`);
    assert.ok(Math.abs(store.now() - Date.now()) < hourMs / 6);
  });

  test("an answer that comes too late leaves nothing half done", async (t) => {
    const url = new URL(await server.newDatabase());
    await (await Store.open({ engine: "postgres", url: url.href }, Date.now)).close();
    const target = Number(url.port);
    const proxy = await Proxy.open(() => target);
    url.port = `${proxy.port}`;
    // Longer than an answer takes on a slow host; the server is to bear with us for longer still.
    url.searchParams.set("query_timeout", "5000");
    url.searchParams.set("idle_in_transaction_session_timeout", "600000");
    const store = await Store.open({ engine: "postgres", url: url.href }, Date.now);
    t.after(async () => {
      proxy.resume();
      await store.close();
      await proxy.close();
    });
    const late = store.write(async (tx) => {
      await settingOnce(tx, "late", () => "half done");
      proxy.stall();
      await settingOnce(tx, "later", () => "not done");
    });
    await assert.rejects(late);
    proxy.resume();
    for (let n = 0; n < 10; n++) await store.write((tx) => settingOnce(tx, `sound-${n}`, () => ""));
    const rows = await store.db.selectFrom("settings").select("key").execute();
    assert.deepEqual(
      rows.map(({ key }) => key).filter((key) => key.startsWith("late")),
      [],
    );
  });

  test("a connection closed in the midst of a unit fails that unit, and no more", async (t) => {
    const url = await server.newDatabase();
    const store = await Store.open({ engine: "postgres", url }, Date.now);
    const other = new pg.Client({ connectionString: url });
    await other.connect();
    t.after(async () => {
      await store.close();
      await other.end();
    });
    const broken = store.write(async (tx) => {
      const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx.db);
      await other.query("select pg_terminate_backend($1)", [rows[0]?.pid]);
      // Long enough for the news to arrive while no query waits for it.
      await new Promise((resolve) => setTimeout(resolve, 100));
      await settingOnce(tx, "broken", () => "");
    });
    await assert.rejects(broken);
    await store.write((tx) => settingOnce(tx, "sound", () => ""));
    const rows = await store.db.selectFrom("settings").select("key").execute();
    assert.ok(!rows.some(({ key }) => key === "broken"));
  });

  test("whoever stops within a transaction loses it, and with it what it holds up", async (t) => {
    const url = await server.newDatabase();
    const stores = await Promise.all(
      ["a", "b"].map(() => Store.open({ engine: "postgres", url }, Date.now)),
    );
    t.after(() => Promise.all(stores.map((store) => store.close())));
    const [stopped, other] = stores;
    const locked = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const unit = stopped!.write(async (tx) => {
      await takeLease(tx, "pool/one", "stopped", 1);
      locked.resolve();
      await goOn.promise;
    });
    unit.catch(() => {});
    await locked.promise;
    const taken = await other!.write((tx) => takeLease(tx, "pool/one", "other", 60_000));
    assert.equal(taken?.holder, "other");
    goOn.resolve();
    await assert.rejects(unit);
  });
});

onBothEngines("leases of those who are gone", (under) => {
  test("a machine made after its runner's end redeems nothing", async () => {
    const store = await under.open(new HandClock());
    await store.write(async (tx) => {
      const lease = await takeLease(tx, "pool/small", "me", 60_000);
      assert.ok(lease);
      await recordClaims(tx, lease, [sampleClaim("m-a"), sampleClaim("m-b")], 9);
    });
    await store.write((tx) => endRunner(tx, "m-a", "not wanted"));
    assert.notEqual(await store.write((tx) => redeemClaim(tx, "m-a", "digest")), "digest");
    assert.equal(await store.write((tx) => redeemClaim(tx, "m-b", "digest")), "digest");
  });

  test("a start forgets replicas that died long ago, and no others", async () => {
    const clock = new HandClock();
    const store = await under.open(clock);
    const take = (name: string, ttlMs: number) =>
      store.write((tx) => takeLease(tx, name, "one", ttlMs));
    // A server's time is its own: a lease given for the past ended in the past.
    await take("replica/old", -2 * hourMs);
    await take("pool/one", -2 * hourMs);
    await store.write((tx) => endLeasesOfTheDead(tx));
    const board = await store.write((tx) => leaseBoard(tx));
    assert.deepEqual([...board.keys()], ["pool/one"]);
  });
});
