import { brokerForge, type BrokerSettings } from "../domain/broker.ts";
import type { Loan } from "../domain/loan.ts";
import type { Price } from "../domain/money.ts";
import type { Pool } from "../domain/pool.ts";
import type { Runner } from "../domain/runner.ts";
import { samplePool } from "../domain/samples.ts";
import { systemClock, type Clock } from "../fleet/clock.ts";
import { FleetIntake } from "../fleet/intake.ts";
import type { Forge } from "../forges/forge.ts";
import { openWorld, type GithubWorld } from "../forges/github/fake/world.ts";
import type { FakeJob, FakeRun } from "../forges/github/fake/shapes.ts";
import { noteHandOver } from "../store/guest.ts";
import { takeLease } from "../store/leases.ts";
import { openLoans, runnerOfLoan } from "../store/loans.ts";
import { moveRunner, recordClaims } from "../store/runners.ts";
import { Store } from "../store/store.ts";
import type { Broker, Wish } from "./broker.ts";
import { openBroker } from "./open.ts";

const dayMs = 24 * 3600_000;

const brokerSettings: BrokerSettings = {
  forge: "acme",
  repositories: ["acme/widget"],
  label: "mayfly_{run}_{attempt}",
  workflows: [],
  pools: { x86_64: "intel", arm64: "arm" },
  perRun: 1,
  perRepository: 10,
  perAddress: 20,
  perHour: 100,
  microUsdPerDay: 10_000_000,
  answerSeconds: 600,
  waitSeconds: 900,
};

/** A broker over a forge that is played and a store in memory; machines are the test's to make. */
export interface BrokerWorld extends Pick<GithubWorld, "fake"> {
  readonly broker: Broker;
  readonly store: Store;
  readonly clock: Clock & { offsetMs: number };
  /** As the fleet has them: what was lent, and the configured one that knows of it. */
  readonly lender: Forge;
  readonly home: Forge;
  readonly intake: FleetIntake;
  readonly logged: string[];
  close(): Promise<void>;
}

export interface WorldChanges {
  readonly settings?: Partial<BrokerSettings>;
  readonly pool?: Partial<Pool>;
  readonly price?: Price;
  /** Another forge than the played GitHub, called `acme`. */
  readonly forge?: (clock: Clock) => Promise<Forge>;
  readonly store?: Store;
}

export async function brokerWorld(changes: WorldChanges = {}): Promise<BrokerWorld> {
  // Far from where a day or a minute ends: there are budgets for either.
  const startedAt = Date.now();
  const noon = startedAt - (startedAt % dayMs) + dayMs / 2;
  const clock = {
    offsetMs: 0,
    now: (): number => noon + Date.now() - startedAt + clock.offsetMs,
    after: systemClock.after,
  };
  const github = await openWorld({ now: clock.now });
  const store = changes.store ?? (await Store.open({ engine: "sqlite", folder: null }, clock.now));
  const logged: string[] = [];
  const note = (_fields: object, message: string): void => void logged.push(message);
  const forges = new Map([["acme", (await changes.forge?.(clock)) ?? github.forge]]);
  const settings = { ...brokerSettings, ...changes.settings };
  const log = { info: note, warn: note };
  const open = openBroker({ settings, store, clock, log, forges });
  const pool = { forge: brokerForge, provider: "box", idleSeconds: 0, ...changes.pool };
  const pools = [
    samplePool({ ...pool, name: "intel", labels: ["arch_x86_64"] }),
    samplePool({ ...pool, name: "arm", labels: ["arch_arm64"] }),
  ];
  const intake = new FleetIntake(store, forges, pools);
  const free = { microUsdPerHour: 0, quantumSeconds: 1, minimumSeconds: 0 };
  const broker = open({ intake, pools, price: () => changes.price ?? free });
  const lender = forges.get(brokerForge);
  const home = forges.get("acme");
  if (lender === undefined || home === undefined) throw new Error("there is no broker");
  return {
    ...{ broker, store, clock, lender, home, intake, logged, fake: github.fake },
    close: async () => {
      await github.fake.close();
      await store.close();
    },
  };
}

/** What rr asks for, or our own API: the label is followed by its architecture. */
export function wish(label: string, ...architectures: string[]): Wish {
  return { label, architectures, isInLabel: false, repository: null, run: null };
}

/** A run whose first job asks for machines, while others wait for it to end. */
export function beginRun({ fake: { state } }: BrokerWorld, head = "widget"): FakeRun {
  const run = state.run(state.repository("widget"), state.repository(head));
  run.hasMore = true;
  Object.assign(state.job(run, ["ubuntu-latest"]), { status: "in_progress" });
  return run;
}

export function jobOf(
  { fake: { state } }: BrokerWorld,
  run: FakeRun,
  ...labels: string[]
): FakeJob {
  return state.job(run, labels);
}

/** Makes the machine of each loan that lacks one, and hands it its runner. */
export async function boot(world: BrokerWorld): Promise<readonly Runner[]> {
  const made: Runner[] = [];
  for (const loan of await openLoans(world.store.db)) {
    if ((await runnerOfLoan(world.store.db, loan)) === null) made.push(await bootOne(world, loan));
  }
  return made;
}

async function bootOne({ store, lender }: BrokerWorld, loan: Loan): Promise<Runner> {
  const name = `m1-${loan.pool}-${loan.id.replaceAll(/[^a-z0-9]/g, "").slice(-20)}`;
  await store.write(async (tx) => {
    const lease = await takeLease(tx, `pool/${loan.pool}`, "tests", 600_000);
    if (lease === null) throw new Error("somebody has the lease");
    const { pool, labels, labelClass } = loan;
    const size = { cpu: 1, memoryMb: 1024, diskGb: 10, gpu: 0, architecture: "x64" } as const;
    const price = { microUsdPerHour: 100_000, quantumSeconds: 1, minimumSeconds: 0 };
    const of = { pool, labels, labelClass, size, price, forge: brokerForge, provider: "box" };
    await recordClaims(tx, lease, [{ ...of, name, reason: "a test" }], 100);
    await moveRunner(tx, name, "asked", { reason: "a test" });
    await moveRunner(tx, name, "up", { reason: "a test" });
    await noteHandOver(tx, name, "a test");
  });
  const runner = await runnerOfLoan(store.db, loan);
  if (runner === null) throw new Error("no runner was recorded");
  const context = { accept: ["trusted", "fork"], jobDeadlineSeconds: 3600 } as const;
  await lender.handOver?.(runner, context, AbortSignal.timeout(60_000));
  return runner;
}

/** What the fleet does each half minute: asks what was lent how it stands, and takes it over. */
export async function round({ lender, home, intake }: BrokerWorld): Promise<void> {
  const signal = AbortSignal.timeout(60_000);
  await intake.record(await lender.poll(signal));
  await intake.record(await home.poll(signal));
  await lender.poll(signal);
}
