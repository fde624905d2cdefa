import { jobId, type JobOutcome, type JobSighting } from "../src/domain/job.ts";
import type { Program } from "../src/domain/program.ts";
import { subset } from "../src/domain/matching.ts";
import type { Pool } from "../src/domain/pool.ts";
import type { Fleet } from "../src/fleet/api.ts";
import type { Clock } from "../src/fleet/clock.ts";
import { createFleet, type Timing } from "../src/fleet/fleet.ts";
import { silentLog, type Log } from "../src/fleet/log.ts";
import { silentObserver } from "../src/fleet/observer.ts";
import type {
  Forge,
  ForgeEvents,
  KnownJob,
  Registration,
  RerunAnswer,
} from "../src/forges/forge.ts";
import { FakeProvider, type FakeGuest, type FakeOptions } from "../src/providers/fake/fake.ts";
import { Store } from "../src/store/store.ts";
import { samplePool, sampleSighting } from "./samples.ts";

/** A clock that stands still until it is told to run; its timers fire in order. */
class TestClock implements Clock {
  #at = 1_800_000_000_000;
  #setBy = 0;
  readonly #timers = new Map<number, { at: number; fn: () => void }>();
  #next = 0;

  now = (): number => this.#at;
  elapsed = (): number => this.#at - this.#setBy;

  after(ms: number, fn: () => void): () => void {
    const id = this.#next++;
    this.#timers.set(id, { at: this.#at + Math.max(0, ms), fn });
    return () => this.#timers.delete(id);
  }

  /** Somebody sets the clock: nothing has passed, and no timer comes nearer. */
  set(by: number): void {
    this.#at += by;
    this.#setBy += by;
    for (const timer of this.#timers.values()) timer.at += by;
  }

  /** Runs `ms` onwards, letting everything that a timer set off come to rest before the next. */
  async run(ms: number): Promise<void> {
    const until = this.#at + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= until);
      const first = due.sort(([, a], [, b]) => a.at - b.at)[0];
      if (first === undefined) break;
      const [id, { at, fn }] = first;
      this.#timers.delete(id);
      this.#at = Math.max(this.#at, at);
      fn();
      await settle();
    }
    this.#at = until;
  }
}

/** Turns of the event loop after which nothing of ours is under way: all our waits are timers. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 60; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** A forge that gives a job to any runner that matches, and tells of it by event, poll or both. */
export class FakeForge implements Forge {
  readonly name: string;
  readonly jobs = new Map<string, JobSighting>();
  readonly online = new Map<string, { labels: readonly string[]; job: string | null }>();
  /** False: events are lost, and only the poll tells. */
  tells = true;
  isDown = false;
  /** Removals asked for, in order. */
  readonly removals: string[] = [];
  tell: (sighting: JobSighting) => void = () => {};
  now = (): number => 0;

  constructor(name: string) {
    this.name = name;
  }

  match = subset;

  verify(): ForgeEvents {
    throw new Error("tests hand in sightings");
  }

  async poll(): Promise<readonly JobSighting[]> {
    this.#refuseWhenDown();
    return [...this.jobs.values()];
  }

  async mint(): Promise<Program> {
    this.#refuseWhenDown();
    return { files: [], command: ["run"], environment: {}, deadlineSeconds: 7200 };
  }

  async registrations(): Promise<readonly Registration[]> {
    this.#refuseWhenDown();
    return [...this.online.keys()].map((name) => ({ name, id: name, online: true }));
  }

  async remove(name: string): Promise<"gone" | "busy"> {
    this.#refuseWhenDown();
    this.removals.push(name);
    if ((this.online.get(name)?.job ?? null) !== null) return "busy";
    this.online.delete(name);
    return "gone";
  }

  queue(id: string, labels: readonly string[] = [], changes: Partial<JobSighting> = {}): void {
    this.#show(sampleSighting({ forge: this.name, externalId: id, labels, ...changes }));
  }

  /** What is said to the wish to run a job again; `lost`: it is done, and the answer lost. */
  rerunAnswer: RerunAnswer | "lost" = { kind: "asked" };
  /** The wishes heard, in order; and those that were fulfilled. */
  readonly wishes: string[] = [];
  readonly fulfilled: string[] = [];

  async rerun({ externalId }: KnownJob): Promise<RerunAnswer> {
    this.#refuseWhenDown();
    this.wishes.push(externalId);
    const { rerunAnswer } = this;
    const again = `${externalId}-again`;
    if (this.jobs.has(again)) return { kind: "asked" };
    if (rerunAnswer !== "lost" && rerunAnswer.kind !== "asked") return rerunAnswer;
    const { queuedAt: _, ...job } = this.jobs.get(externalId)!;
    this.fulfilled.push(externalId);
    const fresh = { state: "waiting", outcome: null, runner: null, attempt: 2 } as const;
    this.queue(again, job.labels, { ...job, ...fresh, externalId: again, queuedAt: this.now() });
    if (rerunAnswer === "lost") throw new Error("the answer was lost");
    return rerunAnswer;
  }

  /** Its runner is not heard of any more. */
  fail(id: string, outcome: JobOutcome = "failure"): void {
    const name = this.jobs.get(id)?.runner;
    if (typeof name === "string") this.online.delete(name);
    this.#advance(id, { state: "ended", outcome });
  }

  cancel(id: string): void {
    this.#advance(id, { state: "ended", outcome: "cancelled" });
  }

  /** A runner came online: it gets the longest waiting job that it matches. */
  connect(name: string, labels: readonly string[]): string | null {
    const job = [...this.jobs.values()].find(
      (one) => one.state === "waiting" && this.match(one.labels, labels),
    );
    this.online.set(name, { labels, job: job?.externalId ?? null });
    if (job === undefined) return null;
    this.#advance(job.externalId, { state: "started", runner: name });
    return job.externalId;
  }

  finish(name: string): void {
    const job = this.online.get(name)?.job ?? null;
    this.online.delete(name);
    if (job !== null) this.#advance(job, { state: "ended", outcome: "success" });
  }

  #advance(id: string, changes: Partial<JobSighting>): void {
    const job = this.jobs.get(id);
    if (job !== undefined && job.state !== "ended") this.#show({ ...job, ...changes });
  }

  #show(sighting: JobSighting): void {
    this.jobs.set(sighting.externalId, sighting);
    if (this.tells) this.tell(sighting);
  }

  #refuseWhenDown(): void {
    if (this.isDown) throw new Error("the forge is down");
  }
}

export interface WorldOptions {
  readonly pools?: readonly Pool[];
  readonly provider?: Partial<FakeOptions>;
  readonly timing?: Partial<Timing>;
  /** How long a job runs, ms. */
  readonly jobMs?: number;
  readonly log?: Log;
}

/** A fleet on a virtual clock, with a forge and a provider that do as they are told. */
export class World {
  readonly clock = new TestClock();
  readonly forge = new FakeForge("acme");
  readonly provider: FakeProvider;
  store!: Store;
  fleet!: Fleet;
  readonly #options: WorldOptions;
  #replicas = 0;

  private constructor(options: WorldOptions) {
    this.#options = options;
    this.provider = new FakeProvider({
      name: "box",
      installation: "mf",
      // Machines elsewhere know nothing of how the manager's clock is set.
      clock: { now: this.clock.elapsed, after: (ms, fn) => this.clock.after(ms, fn) },
      bootMs: 2000,
      guest: (guest) => this.#guest(guest),
      ...options.provider,
    });
    this.forge.now = this.clock.now;
    this.forge.tell = (sighting) => void this.fleet.intake.record([sighting]).catch(() => {});
  }

  static async open(options: WorldOptions = {}): Promise<World> {
    const world = new World(options);
    world.store = await Store.open({ engine: "sqlite", folder: null }, world.clock.now);
    await world.startFleet();
    return world;
  }

  /** A manager over the same store, forge and provider: the first, or the next after a crash. */
  async startFleet(): Promise<void> {
    const { pools = [samplePool()], timing = {}, log = silentLog } = this.#options;
    const { store, clock, forge, provider } = this;
    const replica = `replica-${++this.#replicas}`;
    this.fleet = fleetOver({ store, clock, forge, provider, pools, timing, log, replica });
    await this.fleet.start();
  }

  async close(): Promise<void> {
    const stopping = this.fleet.stop();
    await this.clock.run(60_000);
    await stopping;
    await this.store.close();
  }

  jobId(externalId: string): string {
    return jobId(this.forge.name, externalId, 1);
  }

  #guest(guest: FakeGuest): void {
    const { name } = guest.spec;
    void this.store.db
      .selectFrom("runners")
      .select("labels")
      .where("name", "=", name)
      .executeTakeFirst()
      .then((row) => {
        if (guest.ended.aborted) return;
        this.forge.connect(name, JSON.parse(row?.labels ?? "[]") as string[]);
        guest.ended.addEventListener("abort", cancel, { once: true });
      });
    // A real runner waits for its job; this one ends when it has had one.
    const cancel = this.clock.after(this.#options.jobMs ?? 30_000, () => {
      if (guest.ended.aborted || this.forge.online.get(name)?.job == null) return;
      this.forge.finish(name);
      guest.exit(0);
    });
  }
}

/** The real fleet over one forge and one provider. */
export function fleetOver(parts: {
  readonly store: Store;
  readonly clock: Clock;
  readonly forge: FakeForge;
  readonly provider: FakeProvider;
  readonly pools: readonly Pool[];
  readonly timing: Partial<Timing>;
  readonly replica: string;
  readonly log?: Log;
}): Fleet {
  const { store, clock, forge, provider, pools, timing, replica, log = silentLog } = parts;
  let seed = Number.parseInt(replica.slice(-1), 36) + 1;
  return createFleet({
    store,
    clock,
    chance: () => (seed = (seed * 16807) % 2147483647) / 2147483647,
    log,
    observer: silentObserver,
    forges: new Map([[forge.name, forge]]),
    providers: new Map([[provider.name, provider]]),
    pools,
    installation: "mf",
    replica,
    claimToken: (name) => `claim-${name}`,
    publicUrl: () => "http://manager",
    desks: () => ({ native: unused(), guests: unused(), prune: async () => {} }),
    timing,
  });
}

function unused(): never {
  return new Proxy({}, { get: () => () => Promise.reject(new Error("not in this test")) }) as never;
}
