import { readdir } from "node:fs/promises";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Broker } from "../broker/broker.ts";
import type { Fact } from "../domain/fact.ts";
import type { Fleet } from "../fleet/api.ts";
import type { FrontOutcome } from "../fleet/front.ts";
import type { Log } from "../fleet/log.ts";
import type { Observer } from "../fleet/observer.ts";
import { poolTotals } from "../store/questions.ts";
import {
  factsSince,
  jobsNamed,
  newestFactId,
  runnersNamed,
  startedCount,
} from "../store/statistics.ts";
import type { Store } from "../store/store.ts";
import { brokerCounter, brokerGauges } from "./broker-metrics.ts";

/*
 * Prometheus metrics. Labels are pools, providers and closed sets of words, never a job, a machine
 * or a repository. What fleets do is read from the history a moment after it is written; every
 * replica of one store therefore shows the same, except for the calls to providers, which are each
 * replica's own.
 */

/** How long news gather before they are read. */
const gatherMs = 1000;
/**
 * Facts younger than this wait for the next reading: PostgreSQL numbers facts before it commits
 * them, so that one with a smaller number may still appear.
 */
const settleMs = 2000;
const factsAtOnce = 500;
/** Seconds: machines come up in one or in several hundred. */
const buckets = [
  0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800, 7200,
];

const stages = ["queued_to_seen", "seen_to_asked", "asked_to_up", "up_to_started"] as const;
type Stage = (typeof stages)[number];

export class Metrics {
  readonly #registry: Registry;
  readonly #stages: Record<Stage, Histogram<"pool">>;
  readonly #jobsEnded: Counter<"pool" | "outcome">;
  readonly #machinesGone: Counter<"pool" | "provider" | "use">;
  readonly #providerFailures: Counter<"provider" | "call" | "failure">;
  readonly #frontMessages: Counter<"outcome">;
  readonly #gauges: (fleet: Fleet) => Promise<void>;
  /** Absent where nothing is lent. */
  #broker: { read(): Promise<void>; readonly asked: Counter<"operation" | "status"> } | null = null;
  readonly observer: Observer;
  #lastFact = 0;

  constructor({ now, version }: { readonly now: () => number; readonly version: string }) {
    const registry = new Registry();
    const registers = [registry];
    this.#registry = registry;
    const stage = (name: Stage, help: string): Histogram<"pool"> =>
      new Histogram({
        name: `mayfly_job_${name}_seconds`,
        help: `${help}, of the jobs that started`,
        labelNames: ["pool"],
        buckets,
        registers,
      });
    this.#stages = {
      queued_to_seen: stage("queued_to_seen", "From queued at the forge to known here"),
      seen_to_asked: stage(
        "seen_to_asked",
        "From known to its machine asked for (0: it was there)",
      ),
      asked_to_up: stage("asked_to_up", "From its machine asked for to up"),
      up_to_started: stage("up_to_started", "From its machine up to the job started"),
    };
    this.#jobsEnded = new Counter({
      name: "mayfly_jobs_ended_total",
      help: "Jobs that ended, by how",
      labelNames: ["pool", "outcome"],
      registers,
    });
    this.#machinesGone = new Counter({
      name: "mayfly_machines_gone_total",
      help: "Machines that are gone, by what they were good for: a job, waiting idle, or nothing",
      labelNames: ["pool", "provider", "use"],
      registers,
    });
    this.#providerFailures = new Counter({
      name: "mayfly_provider_failures_total",
      help: "Failed calls of this process to providers, by class",
      labelNames: ["provider", "call", "failure"],
      registers,
    });
    this.#frontMessages = new Counter({
      name: "mayfly_front_messages_total",
      help: "Messages that this process took from the front's queue, by what became of them",
      labelNames: ["outcome"],
      registers,
    });
    this.observer = {
      providerFailed: (provider, call, failure) =>
        this.#providerFailures.inc({ provider, call, failure }),
    };
    this.#gauges = fleetGauges(registry);
    processMetrics(registry, now(), version);
  }

  frontTook(outcome: FrontOutcome): void {
    this.#frontMessages.inc({ outcome });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Shows what a broker lends, too. */
  addBroker(broker: Broker): void {
    const gauges = brokerGauges(this.#registry);
    this.#broker = { read: () => gauges(broker), asked: brokerCounter(this.#registry) };
  }

  brokerAnswered(operation: string, status: number): void {
    this.#broker?.asked.inc({ operation, status: String(status) });
  }

  /** All metrics as text, the gauges as they are now. */
  async render(fleet: Fleet): Promise<string> {
    await this.#gauges(fleet);
    await this.#broker?.read();
    return this.#registry.metrics();
  }

  /** Counts what the history tells from now on. Returns how to stop. */
  async follow(store: Store, log: Log, now: () => number): Promise<() => void> {
    this.#lastFact = await newestFactId(store.db);
    let timer: NodeJS.Timeout | undefined;
    let isReading = false;
    const readSoon = (): void => {
      if (timer !== undefined || isReading) return;
      timer = setTimeout(() => void read(), gatherMs).unref();
    };
    const read = async (): Promise<void> => {
      timer = undefined;
      isReading = true;
      const isMore = await this.#read(store, now() - settleMs).catch((error: unknown) => {
        log.warn({ error: String(error) }, "metrics fell behind the history");
        return false;
      });
      isReading = false;
      if (isMore) readSoon();
    };
    const stopListening = store.onWake(readSoon);
    return () => {
      stopListening();
      clearTimeout(timer);
    };
  }

  /** Counts facts up to a moment. True when there are younger ones. */
  async #read(store: Store, until: number): Promise<boolean> {
    const kinds = ["started", "ended", "gone"] as const;
    for (;;) {
      const facts = await factsSince(store.db, this.#lastFact, { kinds }, factsAtOnce);
      const young = facts.findIndex(({ at }) => at > until);
      const settled = young === -1 ? facts : facts.slice(0, young);
      await this.#count(store, settled);
      this.#lastFact = settled.at(-1)?.id ?? this.#lastFact;
      if (young !== -1) return true;
      if (facts.length < factsAtOnce) return false;
    }
  }

  async #count(store: Store, facts: readonly Fact[]): Promise<void> {
    const subjects = (subjectKind: string, kind: string): string[] =>
      facts
        .filter((fact) => fact.subjectKind === subjectKind && fact.kind === kind)
        .map(({ subject }) => subject);
    await this.#countStarted(store, subjects("job", "started"));
    const ended = await jobsNamed(store.db, subjects("job", "ended"));
    for (const { pool, outcome } of ended.values()) {
      if (pool !== null) this.#jobsEnded.inc({ pool, outcome: outcome ?? "unknown" });
    }
    const gone = await runnersNamed(store.db, subjects("runner", "gone"));
    for (const { pool, provider, startedAt, upAt } of gone.values()) {
      const use = startedAt !== null ? "job" : upAt !== null ? "idle" : "none";
      this.#machinesGone.inc({ pool, provider, use });
    }
  }

  async #countStarted(store: Store, ids: readonly string[]): Promise<void> {
    const jobs = await jobsNamed(store.db, ids);
    const names = [...jobs.values()].flatMap(({ runner }) => runner ?? []);
    const machines = await runnersNamed(store.db, names);
    for (const { pool, runner, queuedAt, seenAt } of jobs.values()) {
      const machine = runner === null ? undefined : machines.get(runner);
      if (pool === null || machine === undefined) continue;
      const { claimedAt, upAt, startedAt } = machine;
      // Its guest may report before the provider has answered; then nobody noted when it was asked.
      const askedAt = machine.askedAt ?? claimedAt;
      const observe = (stage: Stage, from: number | null, to: number | null): void => {
        if (from === null || to === null) return;
        this.#stages[stage].observe({ pool }, Math.max(0, to - from) / 1000);
      };
      observe("queued_to_seen", queuedAt, seenAt);
      observe("seen_to_asked", seenAt, askedAt);
      observe("asked_to_up", askedAt, upAt);
      observe("up_to_started", upAt, startedAt);
    }
  }
}

/** Read from the kept counts, so that a scrape costs the same however many jobs there are. */
function fleetGauges(registry: Registry): (fleet: Fleet) => Promise<void> {
  const registers = [registry];
  const machines = new Gauge({
    name: "mayfly_machines",
    help: "Machines alive, by state",
    labelNames: ["pool", "state"],
    registers,
  });
  const waiting = new Gauge({
    name: "mayfly_jobs_waiting",
    help: "Jobs that wait for a machine",
    labelNames: ["pool"],
    registers,
  });
  const started = new Gauge({ name: "mayfly_jobs_started", help: "Jobs that run", registers });
  const max = new Gauge({
    name: "mayfly_pool_max",
    help: "Machines a pool may have alive",
    labelNames: ["pool"],
    registers,
  });
  const backedOff = new Gauge({
    name: "mayfly_provider_backed_off",
    help: "1 while nothing new is asked of the provider",
    labelNames: ["provider"],
    registers,
  });
  return async (fleet) => {
    const totals = await poolTotals(fleet.store.db);
    for (const gauge of [machines, waiting, max, backedOff]) gauge.reset();
    for (const { name, max: most } of fleet.pools) max.set({ pool: name }, most);
    const names = new Set([...fleet.pools.map(({ name }) => name), ...totals.keys()]);
    for (const pool of names) {
      const counts = totals.get(pool);
      waiting.set({ pool }, counts?.waiting ?? 0);
      for (const state of ["booting", "idle", "busy", "ending"] as const) {
        machines.set({ pool, state }, counts?.[state] ?? 0);
      }
    }
    started.set(await startedCount(fleet.store.db));
    for (const { name, backOff } of fleet.providers()) {
      backedOff.set({ provider: name }, backOff === null ? 0 : 1);
    }
  };
}

/**
 * Of the process, by hand: the library's own set watches the event loop with a timer of 10 ms, which
 * an idle server would pay for all day.
 */
function processMetrics(registry: Registry, startedAt: number, version: string): void {
  const gauge = (name: string, help: string, read: () => number | Promise<number>): Gauge =>
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        this.set(await read());
      },
    });
  const cpu = new Counter({
    name: "process_cpu_seconds_total",
    help: "User and system time spent",
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      cpu.reset();
      cpu.inc((user + system) / 1e6);
    },
  });
  gauge("process_resident_memory_bytes", "Memory held", () => process.memoryUsage.rss());
  gauge("process_start_time_seconds", "When it started", () => startedAt / 1000);
  gauge("process_open_fds", "File descriptors open", openFiles);
  gauge("nodejs_heap_used_bytes", "Heap in use", () => process.memoryUsage().heapUsed);
  new Gauge({
    name: "mayfly_info",
    help: "Which version this is",
    labelNames: ["version", "node"],
    registers: [registry],
  }).set({ version, node: process.version }, 1);
}

async function openFiles(): Promise<number> {
  const files = await readdir("/proc/self/fd").catch(() => null);
  return files === null ? Number.NaN : files.length;
}
