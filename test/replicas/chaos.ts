import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { type Look, until as waitUntil } from "../until.ts";
import type { Hold, Replica, ReplicaWorld } from "./world.ts";

/** A job as whoever submitted it knows it. */
export interface Submitted {
  readonly token: string;
  /** Null: the answer was lost, so whether there is such a job is open. */
  readonly id: string | null;
  readonly exitCode: number;
}

/** A lease that one replica held when something was done to it, and when another had it. */
export interface TakeOver {
  readonly resource: string;
  readonly trouble: string;
  readonly tookMs: number;
}

interface Pending extends Hold {
  readonly trouble: string;
  readonly at: number;
}

const troubles = ["kill", "stop", "stall", "cut", "terminate", "leave"] as const;
type Trouble = (typeof troubles)[number];
const submitMs = 2_000;

/** Submits jobs without pause and does something bad to a replica every few seconds. */
export class Chaos {
  readonly submitted: Submitted[] = [];
  readonly takeOvers: TakeOver[] = [];
  readonly counts = new Map<Trouble, number>();
  /** How long this process stood still at the most, though it had something to do. */
  longestPauseMs = 0;
  readonly #world: ReplicaWorld;
  /** Two sources, so that when answers come does not change what is done to whom. */
  readonly #chance: () => number;
  readonly #jobChance: () => number;
  #pending: Pending[] = [];
  readonly #healing = new Set<Promise<void>>();
  /** Also those that took too long to wait for: what they ask may yet be done. */
  readonly #asked: Promise<unknown>[] = [];

  constructor(world: ReplicaWorld, seed: number) {
    this.#world = world;
    this.#chance = chanceOf(seed);
    this.#jobChance = chanceOf(seed + 1);
  }

  async run(ms: number): Promise<void> {
    const end = Date.now() + ms;
    const watch = new AbortController();
    const pauses = monitorEventLoopDelay();
    pauses.enable();
    const background = [this.#submitAlways(watch.signal), this.#watch(watch.signal)];
    // What a short run shall have seen.
    const first: readonly Trouble[] = ["kill", "stop", "cut"];
    let bag: Trouble[] = [...first];
    while (Date.now() < end || first.some((trouble) => !this.counts.has(trouble))) {
      await pause(1_500 + this.#chance() * 2_500);
      const healthy = this.#world.replicas.filter((replica) => replica.trouble === null);
      // One is left alone, or nothing could take over.
      if (healthy.length < 2) continue;
      // Each in turn, in an order of chance, so that a short run has seen all.
      if (bag.length === 0) bag = [...troubles];
      const [trouble = "kill"] = bag.splice(Math.floor(this.#chance() * bag.length), 1);
      const victim = healthy[Math.floor(this.#chance() * healthy.length)];
      if (victim !== undefined) await this.#begin(victim, trouble);
    }
    await Promise.all(this.#healing);
    // Whoever was killed has another name by now.
    await until("a lease is taken over", async () => this.takeOvers.length > 0);
    pauses.disable();
    this.longestPauseMs = Math.ceil(pauses.max / 1e6);
    watch.abort();
    await Promise.all(background);
    await Promise.all(this.#asked);
  }

  /** Until all that was asked for has ended. */
  async calm(): Promise<void> {
    const { db } = this.#world;
    await until("every job ended and every machine gone", async () => {
      const { rows } = await db.query<{ jobs: number; runners: number }>(
        `select (select count(*)::int from jobs where state <> 'ended') as jobs,
                (select count(*)::int from runners where state <> 'gone') as runners`,
      );
      const [left] = rows;
      if (left?.jobs !== 0 || left.runners !== 0 || this.#world.isMaking()) return false;
      return this.#world.machines().length === 0;
    });
  }

  /** Until each pool is held, and no replica holds two more than another. */
  async spreadOut(): Promise<void> {
    await until("the pools are spread evenly", async () => {
      const pools = (await this.#world.holds()).filter(({ resource }) =>
        resource.startsWith("pool"),
      );
      const shares = Map.groupBy(pools, ({ holder }) => holder);
      const { options, replicas } = this.#world;
      return (
        pools.length === options.pools.length &&
        shares.size === Math.min(replicas.length, pools.length) &&
        [...shares.values()].every(({ length }) => length <= pools.length / replicas.length + 1)
      );
    });
  }

  async #begin(replica: Replica, trouble: Trouble): Promise<void> {
    const { manager, store } = replica;
    this.counts.set(trouble, (this.counts.get(trouble) ?? 0) + 1);
    replica.trouble = trouble;
    const own = (await this.#world.holds()).filter(({ holder }) =>
      holder.includes(`-${manager.pid}-`),
    );
    const at = Date.now();
    if (trouble === "kill") await manager.end("SIGKILL");
    else if (trouble === "stop") process.kill(manager.pid, "SIGSTOP");
    else if (trouble === "stall") store.stall();
    else if (trouble === "cut") store.cut();
    else if (trouble === "terminate") await this.#world.terminate(replica);
    this.#world.unserve(replica);
    const leaseMs = this.#world.options.leaseSeconds * 1000;
    // Well beyond the lease, so that others have taken over when it goes on; or a moment only.
    const isLong = this.#chance() < 0.75 || this.#pending.length + this.takeOvers.length === 0;
    const ms = leaseMs * (isLong ? 1.3 + this.#chance() : 0.4 * this.#chance());
    // Those whose connections were cut make new ones and stay.
    if (trouble !== "cut" && trouble !== "terminate" && isLong) {
      this.#pending.push(...own.map((hold) => ({ ...hold, trouble, at })));
    }
    const healing = this.#heal(replica, trouble, ms).finally(() => this.#healing.delete(healing));
    this.#healing.add(healing);
  }

  async #heal(replica: Replica, trouble: Trouble, ms: number): Promise<void> {
    const { manager, store } = replica;
    if (trouble === "leave") await manager.end("SIGTERM");
    await pause(ms);
    if (trouble === "stop") process.kill(manager.pid, "SIGCONT");
    if (trouble === "stall") store.resume();
    if (trouble === "kill" || trouble === "leave") await this.#world.start(replica);
    else await until(`${replica.name} is ready`, () => manager.isReady());
    replica.isServing = true;
    // Time to take up its work again, before it may be its turn.
    await pause(1_000);
    replica.trouble = null;
  }

  /** Notes when leases of those in trouble have come to somebody else. */
  async #watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#pending.length > 0) {
        const now = new Map(
          (await this.#world.holds()).map(({ resource, holder }) => [resource, holder]),
        );
        const taken = ({ resource, holder }: Pending) =>
          now.has(resource) && now.get(resource) !== holder;
        for (const pending of this.#pending.filter(taken)) {
          const { resource, trouble, at } = pending;
          this.takeOvers.push({ resource, trouble, tookMs: Date.now() - at });
        }
        this.#pending = this.#pending.filter((pending) => !taken(pending));
      }
      await pause(50);
    }
  }

  async #submitAlways(signal: AbortSignal): Promise<void> {
    for (let n = 0; !signal.aborted; n++) {
      const serving = this.#world.replicas.filter(({ isServing }) => isServing);
      const replica = serving[n % Math.max(1, serving.length)];
      const pool = this.#world.options.pools[n % this.#world.options.pools.length];
      if (replica !== undefined && pool !== undefined) await this.#submit(replica, pool, n);
      await pause(100 + this.#jobChance() * 300);
    }
  }

  async #submit({ manager }: Replica, pool: string, n: number): Promise<void> {
    const [token, exitCode] = [`job-${n}`, n % 5 === 0 ? 3 : 0];
    const seconds = (0.1 + this.#jobChance()).toFixed(2);
    const runs = join(this.#world.folder, "runs");
    const script = `echo ${token} >> '${runs}'; sleep ${seconds}; exit ${exitCode}`;
    const body = {
      repository: "replicas",
      source: { kind: "none" },
      pool,
      name: token,
      command: ["sh", "-c", script],
    };
    const asked = manager
      .ask("/v1/jobs", body)
      .then(async (response) =>
        response.status === 201 ? ((await response.json()) as { id: string }) : null,
      )
      .catch(() => null);
    this.#asked.push(asked);
    const answer = await Promise.race([asked, pause(submitMs).then(() => null)]);
    this.submitted.push({ token, id: answer?.id ?? null, exitCode });
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const until = <T>(what: string, look: Look<T>): Promise<T> =>
  waitUntil(what, look, { withinMs: 240_000 });

/** Lehmer's generator: the same sequence in (0, 1) for the same seed. */
function chanceOf(seed: number): () => number {
  let state = (seed % 2147483646) + 1;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}
