import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { postgresMissing, startPostgres, type TestPostgres } from "../../test/postgres.ts";
import { samplePool } from "../../test/samples.ts";
import { FakeForge, fleetOver } from "../../test/world.ts";
import { FakeProvider } from "../providers/fake/fake.ts";
import { listJobs, listRunners } from "../store/questions.ts";
import { Store } from "../store/store.ts";
import type { Fleet } from "./api.ts";
import { systemClock } from "./clock.ts";

/** Waits for a condition, at most 100 s. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 100_000;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const ofServer = { skip: postgresMissing ?? false, timeout: 500_000 };
describe("two replicas on one PostgreSQL", ofServer, () => {
  let server: TestPostgres;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server.stop());

  test("share the pools, act once each, and take over from one that stops", async (t) => {
    const url = await server.newDatabase();
    const forge = new FakeForge("acme");
    const made: string[] = [];
    const provider = new FakeProvider({
      name: "box",
      installation: "mf",
      clock: systemClock,
      guest: ({ spec, exit }) => {
        made.push(spec.name);
        if (forge.connect(spec.name, [spec.name.split("-")[1] ?? ""]) !== null) {
          forge.finish(spec.name);
          exit(0);
        }
      },
    });
    const pools = ["one", "two", "three", "four"].map((name) =>
      samplePool({ name, labels: [name], max: 3 }),
    );
    const timing = { tickMs: 200, sweepMs: 500, pollMs: 500, leaseMs: 1500, lagMs: 300 };
    const stores: Store[] = [];
    const fleets: Fleet[] = [];
    // Also when something fails: a store that stays open keeps this process for ever.
    t.after(async () => {
      for (const one of fleets) await one.stop();
      for (const one of stores) await one.close();
    });
    for (const replica of ["a", "b"]) {
      const store = await Store.open({ engine: "postgres", url }, systemClock.now);
      const fleet = fleetOver({
        store,
        clock: systemClock,
        forge,
        provider,
        pools,
        timing,
        replica,
      });
      await fleet.start();
      stores.push(store);
      fleets.push(fleet);
    }
    const [first, second] = fleets as [Fleet, Fleet];
    const [, store] = stores as [Store, Store];
    let turn = 0;
    // Each event reaches one replica, now this, now that.
    forge.tell = (sighting) =>
      void (turn++ % 2 === 0 ? first : second).intake.record([sighting]).catch(() => {});
    const done = async (count: number): Promise<boolean> =>
      (await listJobs(store.db, { state: "ended" })).length === count;

    for (let i = 0; i < 40; i++) forge.queue(`${i}`, [pools[i % 4]?.name ?? ""]);
    await until("the first forty jobs ended", () => done(40));
    assert.equal(new Set(made).size, made.length, "a machine was started twice");

    const leases = await store.db.selectFrom("leases").select(["resource", "holder"]).execute();
    assert.equal(leases.filter(({ resource }) => resource.startsWith("pool/")).length, 4);

    await first.stop();
    forge.tell = (sighting) => void second.intake.record([sighting]).catch(() => {});
    for (let i = 40; i < 60; i++) forge.queue(`${i}`, [pools[i % 4]?.name ?? ""]);
    await until("the other twenty jobs ended", () => done(60));
    await until("every runner is gone", async () =>
      (await listRunners(store.db, { limit: 1000 })).every(({ state }) => state === "gone"),
    );
    assert.deepEqual(provider.alive(), []);
    assert.equal(new Set(made).size, made.length, "a machine was started twice");
  });
});
