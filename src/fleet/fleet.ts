import type { PlanAction } from "../domain/planner.ts";
import type { Pool } from "../domain/pool.ts";
import type { Forge } from "../forges/forge.ts";
import type { Provider } from "../providers/provider.ts";
import { findBackOff, type BackOff } from "../store/back-offs.ts";
import { endLeasesOfTheDead } from "../store/leases.ts";
import { livingPools } from "../store/questions.ts";
import { prune } from "../store/retention.ts";
import type { Store } from "../store/store.ts";
import { recount } from "../store/tallies.ts";
import type { Fleet, ForgeHealth, GuestDesk, Intake, NativeDesk, ProviderHealth } from "./api.ts";
import { Calls } from "./calls.ts";
import type { Clock } from "./clock.ts";
import { FleetIntake } from "./intake.ts";
import { Keeper, type Duty, type Place } from "./keeper.ts";
import type { Log } from "./log.ts";
import { Minter } from "./mint.ts";
import { runnerName } from "./names.ts";
import type { Observer } from "./observer.ts";
import { Listening } from "./listen.ts";
import { pollForge } from "./poll.ts";
import { checkedPool, closedPool } from "./pools.ts";
import { rerunRound } from "./reruns.ts";
import { Reconciler } from "./reconciler.ts";
import { Spread } from "./spread.ts";
import { sweepForge, sweepProvider } from "./sweep.ts";

export interface FleetParts {
  readonly store: Store;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly chance: () => number;
  readonly log: Log;
  readonly observer: Observer;
  readonly forges: ReadonlyMap<string, Forge>;
  readonly providers: ReadonlyMap<string, Provider>;
  readonly pools: readonly Pool[];
  /** The prefix of every name we give out; one for the whole installation, for ever. */
  readonly installation: string;
  /** This process among the replicas. */
  readonly replica: string;
  /**
   * This replica's host and folder, by a name of their own that lasts. Then the machines of
   * providers that work where they are called are left to the replicas of one place.
   */
  readonly place?: string | undefined;
  readonly claimToken: (runner: string) => string;
  readonly publicUrl: () => string;
  /** Built on the same store; handed in because their home is another module's choice. */
  readonly desks: (
    intake: Intake,
    pools: readonly Pool[],
  ) => {
    readonly native: NativeDesk;
    readonly guests: GuestDesk;
    /** Called by the housekeeping. */
    prune(now: number): Promise<void>;
  };
  readonly timing?: Partial<Timing>;
}

export interface Timing {
  readonly tickMs: number;
  readonly sweepMs: number;
  readonly pollMs: number;
  readonly leaseMs: number;
  readonly lagMs: number;
  readonly housekeepingMs: number;
  readonly callsAtOnce: number;
}

const defaultTiming: Timing = {
  tickMs: 5_000,
  sweepMs: 30_000,
  pollMs: 30_000,
  leaseMs: 15_000,
  lagMs: 20_000,
  housekeepingMs: 600_000,
  callsAtOnce: 10,
};

/**
 * The whole manager over its parts. Pools are checked against what their providers can do: throws
 * `invalid` for one that could never work.
 */
export function createFleet(parts: FleetParts): Fleet {
  return new RunningFleet(parts);
}

class RunningFleet implements Fleet {
  readonly store: Store;
  readonly pools: readonly Pool[];
  readonly intake: Intake;
  readonly native: NativeDesk;
  readonly guests: GuestDesk;
  readonly #parts: FleetParts;
  readonly #timing: Timing;
  readonly #calls: ReadonlyMap<string, Calls>;
  readonly #reconcilers = new Map<string, Reconciler>();
  readonly #keepers = new Map<string, Keeper>();
  readonly #spread: Spread;
  readonly #forgeHealth = new Map<string, ForgeHealth>();
  readonly #backOffs = new Map<string, BackOff | null>();
  readonly #pruneDesks: (now: number) => Promise<void>;
  #stopListening: () => void = () => {};
  #started = false;

  constructor(parts: FleetParts) {
    this.#parts = parts;
    this.#timing = { ...defaultTiming, ...parts.timing };
    this.store = parts.store;
    this.pools = parts.pools.map((pool) => checkedPool(pool, parts));
    this.#calls = new Map(
      [...parts.providers].map(([name, provider]) => [
        name,
        new Calls(provider, parts.clock, parts.observer, this.#timing.callsAtOnce),
      ]),
    );
    const { store, clock, log, replica } = parts;
    this.#spread = new Spread({
      store,
      clock,
      log,
      replica,
      leaseMs: this.#timing.leaseMs,
      changed: (resource) => this.#keepers.get(resource)?.look(),
    });
    this.intake = new FleetIntake(parts.store, parts.forges, this.pools);
    const desks = parts.desks(this.intake, this.pools);
    this.native = desks.native;
    this.guests = desks.guests;
    this.#pruneDesks = (now) => desks.prune(now);
  }

  async start(): Promise<void> {
    await this.store.write((tx) => endLeasesOfTheDead(tx));
    for (const pool of await this.#poolsToKeep()) this.#keepPool(pool);
    for (const calls of this.#calls.values()) this.#keepProvider(calls);
    for (const forge of this.#parts.forges.values()) this.#keepForge(forge);
    this.#keep({
      resource: "housekeeping",
      tickMs: this.#timing.housekeepingMs,
      round: async () => {
        await prune(this.store, this.#parts.clock.now());
        await this.#pruneDesks(this.#parts.clock.now());
        return Infinity;
      },
    });
    this.#stopListening = this.store.onWake((topic) => this.#heard(topic));
    this.#spread.wake();
    this.#started = true;
  }

  async stop(): Promise<void> {
    this.#started = false;
    this.#stopListening();
    // First of all, so that the others expect our leases and take them as they come.
    await this.#spread.stop();
    await Promise.all([...this.#keepers.values()].map((keeper) => keeper.stop()));
  }

  lastPlan(pool: string): { at: number; actions: readonly PlanAction[] } | null {
    return this.#reconcilers.get(pool)?.lastPlan ?? null;
  }

  providers(): readonly ProviderHealth[] {
    return [...this.#calls.values()].map((calls) => ({
      name: calls.provider.name,
      capabilities: calls.provider.lends(),
      backOff: this.#backOffs.get(calls.provider.name) ?? null,
      listedAt: calls.listedAt,
      check: (signal) => calls.provider.check(signal),
    }));
  }

  forges(): readonly ForgeHealth[] {
    return [...this.#parts.forges.keys()].map(
      (name) => this.#forgeHealth.get(name) ?? { name, polledAt: null, failure: null },
    );
  }

  async ready(): Promise<{ ok: boolean; detail: string }> {
    if (!this.#started) return { ok: false, detail: "starting or stopping" };
    try {
      await this.store.db.selectFrom("settings").select("key").limit(1).execute();
      const { trouble } = this.store;
      return { ok: trouble === null, detail: trouble ?? "ready" };
    } catch (error) {
      return { ok: false, detail: `the store does not answer: ${String(error)}` };
    }
  }

  /** The configured pools, and those no longer configured that still have runners to bring home. */
  async #poolsToKeep(): Promise<readonly Pool[]> {
    const left = await livingPools(this.store.db);
    const known = new Set(this.pools.map(({ name }) => name));
    return [
      ...this.pools,
      ...left.filter(({ pool }) => !known.has(pool)).map((row) => closedPool(row)),
    ];
  }

  #keepPool(pool: Pool): void {
    const { forges, chance, clock, log, claimToken, publicUrl, installation } = this.#parts;
    const calls = this.#calls.get(pool.provider);
    const forge = forges.get(pool.forge);
    if (calls === undefined || forge === undefined) {
      const lacking = calls === undefined ? `provider ${pool.provider}` : `forge ${pool.forge}`;
      log.warn({ pool: pool.name }, `has runners left, but ${lacking} is no longer configured`);
      return;
    }
    const reconciler = new Reconciler(pool, {
      store: this.store,
      clock,
      chance,
      forge,
      calls,
      minter: new Minter(claimToken, publicUrl),
      log,
      newName: (name) => runnerName(installation, name, chance),
      newsMs: this.#timing.pollMs + this.#timing.lagMs,
      isConfigured: this.pools.includes(pool),
    });
    this.#reconcilers.set(pool.name, reconciler);
    this.#keep({
      resource: `pool/${pool.name}`,
      tickMs: this.#timing.tickMs,
      taken: async () => {
        const differing = await this.store.write((tx) => recount(tx, pool.name), { alone: true });
        if (differing > 0) log.warn({ pool: pool.name, differing }, "counts were mended");
      },
      place: this.#placeOf(calls),
      round: (lease, signal) => reconciler.round(lease, signal),
      settle: () => reconciler.settle(),
    });
  }

  #keepProvider(calls: Calls): void {
    const { name } = calls.provider;
    const { store, clock, log } = this.#parts;
    this.#keep({
      resource: `provider/${name}`,
      tickMs: this.#timing.sweepMs,
      place: this.#placeOf(calls),
      round: async (lease, signal) => {
        this.#backOffs.set(name, await findBackOff(store.db, `provider/${name}`));
        await sweepProvider({ store, clock, log, lagMs: this.#timing.lagMs }, calls, lease, signal);
        return Infinity;
      },
    });
  }

  #keepForge(forge: Forge): void {
    const { store, clock, log, chance } = this.#parts;
    const listening = new Listening(forge, { intake: this.intake, clock, chance, log });
    this.#keep({
      resource: `forge/${forge.name}`,
      tickMs: this.#timing.pollMs,
      settle: () => listening.settle(),
      round: async (lease, signal) => {
        listening.go(lease, signal);
        const { intake } = this;
        const parts = { store, intake, clock, lagMs: this.#timing.lagMs };
        const health = await pollForge(parts, forge, lease, signal);
        this.#forgeHealth.set(forge.name, health);
        if (health.failure !== null) log.warn({ forge: forge.name }, health.failure);
        await rerunRound({ store, clock, intake, pools: this.pools, log }, forge, lease, signal);
        await sweepForge({ store, clock, log, lagMs: this.#timing.lagMs }, forge, lease, signal);
        return Infinity;
      },
    });
  }

  /** A provider whose machines reach us by a socket makes them where we are, and sees no others. */
  #placeOf({ provider }: Calls): Place | undefined {
    const { place } = this.#parts;
    if (place === undefined || provider.lends().channel !== "socket") return undefined;
    return { resource: `place/${provider.name}`, at: place };
  }

  #keep(duty: Duty): void {
    const { store, clock, log, replica } = this.#parts;
    const { leaseMs } = this.#timing;
    const spread = this.#spread;
    const keeper = new Keeper({ store, clock, log, holder: replica, leaseMs, spread }, duty);
    this.#keepers.set(duty.resource, keeper);
    spread.add(duty.resource);
  }

  /** A pool's news wake its keeper; a provider that works again wakes the pools that wait for it. */
  #heard(topic: string): void {
    // The same for a forge of which some job is to be run again.
    if (topic.startsWith("pool/") || topic.startsWith("forge/")) this.#keepers.get(topic)?.wake();
    if (topic.startsWith("lease/")) this.#spread.wake();
    if (!topic.startsWith("provider/")) return;
    const provider = topic.slice("provider/".length);
    void findBackOff(this.store.db, topic).then(
      (backOff) => this.#backOffs.set(provider, backOff),
      () => {},
    );
    for (const pool of this.pools) {
      if (pool.provider === provider) this.#keepers.get(`pool/${pool.name}`)?.wake();
    }
  }
}
