import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { Proxy } from "../../test/replicas/proxy.ts";
import { postgresMissing, startPostgres, type TestPostgres } from "../../test/postgres.ts";
import { samplePool } from "../../test/samples.ts";
import { FakeForge } from "../../test/world.ts";
import type { Pool } from "../domain/pool.ts";
import { FakeProvider } from "../providers/fake/fake.ts";
import type { Provider } from "../providers/provider.ts";
import { history } from "../store/facts.ts";
import { listJobs, listRunners } from "../store/questions.ts";
import { Store } from "../store/store.ts";
import type { Fleet } from "./api.ts";
import { systemClock, type Clock } from "./clock.ts";
import { createFleet } from "./fleet.ts";
import { silentLog } from "./log.ts";
import { silentObserver } from "./observer.ts";
import { preferredHolders } from "./spread.ts";

const never = new AbortController().signal;
const timing = { tickMs: 200, sweepMs: 400, pollMs: 500, leaseMs: 1500, lagMs: 300 };

/** Real time, whose timers wait while the process is as if stopped. */
class StoppableClock implements Clock {
  #isStopped = false;
  readonly #late: (() => void)[] = [];

  now = systemClock.now;
  elapsed = (): number => performance.now();

  after(ms: number, fn: () => void): () => void {
    let isCancelled = false;
    const run = (): void => {
      if (isCancelled) return;
      if (this.#isStopped) this.#late.push(run);
      else fn();
    };
    const cancel = systemClock.after(ms, run);
    return () => {
      isCancelled = true;
      cancel();
    };
  }

  stop(): void {
    this.#isStopped = true;
  }

  goOn(): void {
    this.#isStopped = false;
    for (const run of this.#late.splice(0)) run();
  }
}

/** Waits for a condition, at most 100 s. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 100_000;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const ofServer = { skip: postgresMissing ?? false, timeout: 500_000 };
describe("replicas on one PostgreSQL", ofServer, () => {
  let server: TestPostgres;
  let url: string;
  let forge: FakeForge;
  let box: FakeProvider;
  let closing: (() => Promise<unknown>)[];
  before(async () => {
    server = await startPostgres();
  });
  after(() => server.stop());
  beforeEach(async () => {
    url = await server.newDatabase();
    forge = new FakeForge("acme");
    closing = [];
    box = new FakeProvider({
      name: "box",
      installation: "mf",
      clock: systemClock,
      guest: ({ spec, exit }) => {
        if (forge.connect(spec.name, [spec.name.split("-")[1] ?? ""]) === null) return;
        forge.finish(spec.name);
        exit(0);
      },
    });
  });
  afterEach(async () => {
    for (const close of closing.reverse()) await close();
  });

  async function replica(
    name: string,
    pools: readonly string[],
    own: {
      readonly provider?: Partial<Provider>;
      readonly mint?: FakeForge["mint"];
      readonly clock?: Clock;
      readonly url?: string;
      readonly place?: string;
      readonly leaseMs?: number;
    } = {},
  ): Promise<{ store: Store; fleet: Fleet }> {
    const clock = own.clock ?? systemClock;
    const store = await Store.open({ engine: "postgres", url: own.url ?? url }, clock.now);
    let seed = name.charCodeAt(0);
    const ownForge = {
      name: "acme",
      match: forge.match,
      verify: () => forge.verify(),
      poll: () => forge.poll(),
      mint: own.mint ?? (() => forge.mint()),
      registrations: () => forge.registrations(),
      remove: (runner: string) => forge.remove(runner),
    };
    const provider: Provider = {
      name: "box",
      create: (spec, program, signal) => box.create(spec, program, signal),
      list: (signal) => box.list(signal),
      destroy: (machine, signal) => box.destroy(machine, signal),
      price: (size) => box.price(size),
      lends: () => box.lends(),
      check: () => box.check(),
      prepare: () => box.prepare(),
      close: () => box.close(),
      ...own.provider,
    };
    const fleet = createFleet({
      store,
      clock,
      log: silentLog,
      observer: silentObserver,
      timing: { ...timing, leaseMs: own.leaseMs ?? timing.leaseMs },
      replica: name,
      chance: () => (seed = (seed * 16807) % 2147483647) / 2147483647,
      forges: new Map([["acme", ownForge]]),
      providers: new Map([["box", provider]]),
      pools: pools.map((pool): Pool => samplePool({ name: pool, labels: [pool], max: 3 })),
      installation: "mf",
      place: own.place,
      claimToken: (runner) => `claim-${runner}`,
      publicUrl: () => "http://manager",
      desks: () => ({ native: null as never, guests: null as never, prune: async () => {} }),
    });
    await fleet.start();
    closing.push(
      () => store.close(),
      () => fleet.stop(),
    );
    return { store, fleet };
  }

  async function holders(store: Store): Promise<Record<string, string>> {
    const rows = await store.db
      .selectFrom("leases")
      .select(["resource", "holder"])
      .where("expires_at", ">", Date.now())
      .execute();
    return Object.fromEntries(rows.map(({ resource, holder }) => [resource, holder]));
  }

  const gone = async (store: Store): Promise<boolean> => {
    const runners = await listRunners(store.db);
    return runners.length > 0 && runners.every(({ state }) => state === "gone");
  };

  /**
   * A holder that stops at a gate of its own, and the one that takes over. The lease outlasts the
   * pauses that a slow host makes of itself.
   */
  async function stoppedHolder(
    at: "mint" | "create",
    leaseMs = 4_500,
  ): Promise<{
    holder: { store: Store; fleet: Fleet };
    other: { store: Store; fleet: Fleet };
    clock: StoppableClock;
    proxy: Proxy;
    gate: PromiseWithResolvers<void>;
    signal: () => AbortSignal | null;
  }> {
    const [one, two] = ["a", "b"] as const;
    const preferred = preferredHolders(["pool/one"], [one, two]).get("pool/one");
    const proxy = await Proxy.open(() => Number(new URL(url).port));
    closing.push(() => proxy.close());
    const near = new URL(url);
    near.port = `${proxy.port}`;
    const clock = new StoppableClock();
    const gate = Promise.withResolvers<void>();
    let arrived = false;
    let given: AbortSignal | null = null;
    const holder = await replica(preferred ?? "", ["one"], {
      clock,
      leaseMs,
      url: near.href,
      mint: async () => {
        arrived = true;
        if (at === "mint") await gate.promise;
        return forge.mint();
      },
      provider: {
        create: async (spec, program, signal) => {
          given = signal;
          await gate.promise;
          // As from a cloud: what was asked for comes, whoever still waits for it.
          return box.create(spec, program, never);
        },
      },
    });
    const other = await replica(preferred === one ? two : one, ["one"], { leaseMs });
    await until(
      "the first holds the pool",
      async () => (await holders(other.store))["pool/one"] === preferred,
    );
    forge.tell = (sighting) => void other.fleet.intake.record([sighting]).catch(() => {});
    forge.queue("1", ["one"]);
    await until("the holder is about to ask", () => (at === "mint" ? arrived : given !== null));
    closing.push(async () => {
      proxy.resume();
      gate.resolve();
      clock.goOn();
    });
    return { holder, other, clock, proxy, gate, signal: () => given };
  }

  test("a holder that was stopped before its call does not make it when it goes on", async () => {
    const { holder, other, clock, proxy, gate, signal } = await stoppedHolder("mint");
    clock.stop();
    proxy.stall();
    await until("the other did it all", () => gone(other.store));
    // Neither a timer nor the database tells it: it must look at the clock.
    const ended = new Promise<void>((resolve) => {
      holder.store.onWake((topic) => topic === "pool/one" && resolve());
    });
    gate.resolve();
    await ended;
    assert.equal(signal(), null, "it asked for the machine");
    proxy.resume();
    clock.goOn();
    await holder.fleet.stop();
    assert.equal(box.calls.create, 1);
    assert.deepEqual(box.alive(), []);
  });

  test("what a stopped holder's call makes late, it takes back itself", async () => {
    const { other, clock, proxy, gate } = await stoppedHolder("create");
    clock.stop();
    proxy.stall();
    await until("the other did it all", () => gone(other.store));
    // The answer comes before any timer tells how late it is.
    proxy.resume();
    gate.resolve();
    await until("made again", () => box.calls.create === 2);
    await until("taken back", () => box.alive().length === 0);
    const [runner] = await listRunners(other.store.db);
    await until("told", async () =>
      (await history(other.store.db, runner?.name ?? "")).some(({ reason }) =>
        reason.includes("after its end was decided"),
      ),
    );
    clock.goOn();
    assert.equal((await listJobs(other.store.db, { state: "ended" })).length, 1);
  });

  test("a holder that is cut off gives up its calls within the lease; what they make is swept", async () => {
    // A third of it is left when calls are given up: time for us to look.
    const { holder, other, proxy, gate, signal } = await stoppedHolder("create", 12_000);
    proxy.stall();
    await until("given up", () => signal()?.aborted === true);
    assert.notEqual((await holders(other.store))["pool/one"], undefined, "too late");
    assert.equal(box.calls.create, 0, "too late");
    await until("the other did it all", () => gone(other.store));
    gate.resolve();
    await until("made again", () => box.alive().length === 1);
    await until("swept", () => box.alive().length === 0);
    proxy.resume();
    await holder.fleet.stop();
  });

  test("share what there is evenly; who leaves or joins moves little", async () => {
    const pools = ["p1", "p2", "p3", "p4", "p5", "p6"];
    const one = await replica("one", pools);
    const shares = async (): Promise<string> => {
      const held = Object.entries(await holders(one.store)).filter(([name]) =>
        name.startsWith("pool"),
      );
      const counts = Map.groupBy(held, ([, holder]) => holder);
      return [...counts]
        .map(([name, its]) => `${name} ${its.length}`)
        .toSorted()
        .join(", ");
    };
    await until("one has all", async () => (await shares()) === "one 6");
    await replica("two", pools);
    await until("two have three each", async () => (await shares()) === "one 3, two 3");
    const three = await replica("three", pools);
    await until("all have two", async () => (await shares()) === "one 2, three 2, two 2");
    await three.fleet.stop();
    await until("two have three each", async () => (await shares()) === "one 3, two 3");
  });

  test("a pool that only one of them has stays with it", async () => {
    const names = ["a", "b"];
    const preferred = preferredHolders(["pool/x"], names).get("pool/x");
    const only = names.find((name) => name !== preferred) ?? "";
    const has = await replica(only, ["x"]);
    await replica(preferred ?? "", []);
    let handedOver = 0;
    has.store.onWake((topic) => void (handedOver += Number(topic === "lease/pool/x")));
    await until("it is handed over", () => handedOver > 0);
    await until("it is held again", async () => (await holders(has.store))["pool/x"] === only);
    const before = handedOver;
    await new Promise((resolve) => setTimeout(resolve, 3 * timing.leaseMs));
    // Twice in each lease, if it went to and fro; once if a slow host let a replica's own lease lapse.
    assert.ok(handedOver - before <= 1, `handed over ${handedOver - before} times more`);
    forge.tell = (sighting) => void has.fleet.intake.record([sighting]).catch(() => {});
    forge.queue("1", ["x"]);
    await until("its job ran", () => gone(has.store));
  });

  test("machines that only one place can see are left to the replicas there", async () => {
    const here = await replica("here", ["one", "two"], { place: "host-1" });
    const local = ["pool/one", "pool/two", "provider/box"];
    // Whoever had it last: a slow host may be late to renew what nobody else takes.
    const holdersOfLocal = async (): Promise<(string | undefined)[]> => {
      const rows = await here.store.db.selectFrom("leases").selectAll().execute();
      return local.map((name) => rows.find(({ resource }) => resource === name)?.holder);
    };
    const all = local.map(() => "here").join();
    await until("it holds all", async () => (await holdersOfLocal()).join() === all);
    const elsewhere = await replica("elsewhere", ["one", "two"], { place: "host-2" });
    await until("the other lives", async () =>
      Object.keys(await holders(here.store)).includes("replica/elsewhere"),
    );
    forge.tell = (sighting) => void elsewhere.fleet.intake.record([sighting]).catch(() => {});
    forge.queue("1", ["one"]);
    forge.queue("2", ["two"]);
    await until(
      "its jobs ran",
      async () => (await listJobs(here.store.db, { state: "ended" })).length === 2,
    );
    assert.equal((await holdersOfLocal()).join(), all);
    await here.fleet.stop();
    await until(
      "the other takes what it can",
      async () => (await holders(elsewhere.store))["housekeeping"] === "elsewhere",
    );
    await new Promise((resolve) => setTimeout(resolve, 2 * timing.leaseMs));
    const left = await holders(elsewhere.store);
    assert.deepEqual([left["pool/one"], left["place/box"]], [undefined, "host-1"]);
  });
});
