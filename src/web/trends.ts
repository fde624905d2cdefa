import { setImmediate as nextTurn } from "node:timers/promises";
import { cost } from "../domain/money.ts";
import { poolTotals } from "../store/questions.ts";
import { jobTimes, machineLives, type JobTimes, type MachineLife } from "../store/statistics.ts";
import type { Database, Store } from "../store/store.ts";

/*
 * How queue, waits, machines and cost went over a day or a week. The history is read an hour at a
 * time, a page of rows in a turn of the event loop, and kept: an hour whose jobs and machines are
 * all over never changes again.
 */

const quarterMs = 15 * 60_000;
const hourMs = 4 * quarterMs;
const pageRows = 1000;
/** A machine or a wait that began longer before the window than this is not seen in it. */
const lookBackMs = 48 * hourMs;
const hoursKept = 10 * 24;
/** How long an hour that may still change is believed. */
const freshMs = 15_000;

export interface TrendPoint {
  /** The end of the interval, ms. */
  readonly at: number;
  /** The longest queue in it. */
  readonly queue: number;
  /** From queued to started, ms, of the jobs queued in it; null: none of them has started. */
  readonly waitP50Ms: number | null;
  readonly waitP95Ms: number | null;
  readonly machineSeconds: number;
  readonly microUsd: number;
}

export interface Trend {
  readonly window: TrendWindow;
  readonly stepMs: number;
  readonly points: readonly TrendPoint[];
}

export const trendWindows = ["24h", "7d"] as const;
export type TrendWindow = (typeof trendWindows)[number];

const shapes: Readonly<Record<TrendWindow, { steps: number; stepMs: number }>> = {
  "24h": { steps: 48, stepMs: 2 * quarterMs },
  "7d": { steps: 42, stepMs: 4 * hourMs },
};

/** Sums by quarter of an hour, the quarter being its number since the epoch. */
type Sums = Map<number, number>;

interface JobHour {
  readonly queued: Sums;
  readonly left: Sums;
  /** By quarter, then by the logarithm of the wait. */
  readonly waits: Map<number, Sums>;
  isSettled: boolean;
}

interface MachineHour {
  readonly seconds: Sums;
  readonly microUsd: Sums;
  isSettled: boolean;
}

export class Trends {
  readonly #store: Store;
  readonly #now: () => number;
  readonly #jobHours: Hours<JobHour>;
  readonly #machineHours: Hours<MachineHour>;

  constructor(store: Store, now: () => number) {
    this.#store = store;
    this.#now = now;
    this.#jobHours = new Hours(now, newJobHour, (from, to, hourOf) =>
      readJobs(store.db, from, to, hourOf),
    );
    this.#machineHours = new Hours(now, newMachineHour, (from, to, hourOf) =>
      readMachines(store.db, from, to, now(), hourOf),
    );
  }

  async over(window: TrendWindow): Promise<Trend> {
    const { steps, stepMs } = shapes[window];
    const end = Math.ceil(this.#now() / stepMs) * stepMs;
    const start = end - steps * stepMs;
    const jobs = await this.#jobHours.between(start - lookBackMs, end);
    const machines = await this.#machineHours.between(start - lookBackMs, end);
    const queues = await this.#queues(jobs, start);
    const seconds = total(machines.map((hour) => hour.seconds));
    const microUsd = total(machines.map((hour) => hour.microUsd));
    const points = Array.from({ length: steps }, (_, index) => {
      const from = start + index * stepMs;
      const waits = merged(jobs, from, from + stepMs);
      return {
        at: from + stepMs,
        queue: Math.max(...quarters(from, from + stepMs).map((one) => queues.get(one) ?? 0)),
        waitP50Ms: percentile(waits, 0.5),
        waitP95Ms: percentile(waits, 0.95),
        machineSeconds: summed(seconds, from, from + stepMs),
        microUsd: summed(microUsd, from, from + stepMs),
      };
    });
    return { window, stepMs, points };
  }

  /** What machines have cost since a moment, to the quarter of an hour. */
  async costSince(from: number): Promise<number> {
    const now = this.#now();
    const machines = await this.#machineHours.between(from - lookBackMs, now + hourMs);
    const microUsd = total(machines.map((hour) => hour.microUsd));
    return Math.round(summed(microUsd, from, now + quarterMs));
  }

  /** How many waited at the end of each quarter: back from now, undoing what came and left. */
  async #queues(hours: readonly JobHour[], start: number): Promise<Sums> {
    const queued = total(hours.map((hour) => hour.queued));
    const left = total(hours.map((hour) => hour.left));
    let length = 0;
    for (const { waiting } of (await poolTotals(this.#store.db)).values()) length += waiting;
    const queues: Sums = new Map();
    const first = Math.floor(start / quarterMs);
    for (let quarter = Math.floor(this.#now() / quarterMs); quarter >= first; quarter--) {
      queues.set(quarter, Math.max(0, length));
      length += (left.get(quarter) ?? 0) - (queued.get(quarter) ?? 0);
    }
    return queues;
  }
}

type Reader<T> = (from: number, to: number, hourOf: (at: number) => T) => Promise<void>;

/** Hours of history, read once each; those that may still change, again after a while. */
class Hours<T extends { isSettled: boolean }> {
  readonly #now: () => number;
  readonly #empty: () => T;
  readonly #read: Reader<T>;
  readonly #kept = new Map<number, { readonly hour: T; readonly staleAt: number }>();
  #reading: Promise<void> = Promise.resolve();

  constructor(now: () => number, empty: () => T, read: Reader<T>) {
    this.#now = now;
    this.#empty = empty;
    this.#read = read;
  }

  /** One caller reads at a time; the others find what it read. */
  async between(from: number, to: number): Promise<T[]> {
    const first = Math.floor(from / hourMs) * hourMs;
    const read = this.#reading.then(() => this.#readMissing(first, to));
    this.#reading = read.catch(() => {});
    await read;
    return [...this.#kept].flatMap(([at, { hour }]) => (at >= first && at < to ? hour : []));
  }

  /** From the first hour that is unknown or stale, on to the next that is neither, and so on. */
  async #readMissing(first: number, to: number): Promise<void> {
    for (let from = first; from < to; from += hourMs) {
      if (this.#isFresh(from)) continue;
      let until = from + hourMs;
      while (until < to && !this.#isFresh(until)) until += hourMs;
      await this.#readRange(from, until);
      from = until;
    }
    for (const at of this.#kept.keys()) if (at < to - hoursKept * hourMs) this.#kept.delete(at);
  }

  #isFresh(at: number): boolean {
    return this.#now() < (this.#kept.get(at)?.staleAt ?? 0);
  }

  async #readRange(from: number, to: number): Promise<void> {
    const hours = new Map<number, T>();
    for (let at = from; at < to; at += hourMs) hours.set(at, this.#empty());
    await this.#read(from, to, (at) => {
      const hour = hours.get(Math.floor(at / hourMs) * hourMs);
      if (hour === undefined) throw new Error("a row lies outside of what was asked for");
      return hour;
    });
    const now = this.#now();
    for (const [at, hour] of hours) {
      const isFinal = hour.isSettled && at + hourMs + lateMs < now;
      this.#kept.set(at, { hour, staleAt: isFinal ? Infinity : now + freshMs });
    }
  }
}

/** A forge may tell of a job this long after it was queued. */
const lateMs = hourMs;

function newJobHour(): JobHour {
  return { queued: new Map(), left: new Map(), waits: new Map(), isSettled: true };
}

function newMachineHour(): MachineHour {
  return { seconds: new Map(), microUsd: new Map(), isSettled: true };
}

async function readJobs(
  db: Database,
  from: number,
  to: number,
  hourOf: (at: number) => JobHour,
): Promise<void> {
  let last: JobTimes | null = null;
  for (;;) {
    const page: JobTimes[] = await jobTimes(db, from, to, last, pageRows);
    for (const job of page) addJob(hourOf(job.queuedAt), job);
    last = page.at(-1) ?? null;
    if (page.length < pageRows) return;
    await nextTurn();
  }
}

async function readMachines(
  db: Database,
  from: number,
  to: number,
  now: number,
  hourOf: (at: number) => MachineHour,
): Promise<void> {
  let last: MachineLife | null = null;
  for (;;) {
    const page: MachineLife[] = await machineLives(db, from, to, last, pageRows);
    for (const machine of page) addMachine(hourOf(machine.claimedAt), machine, now);
    last = page.at(-1) ?? null;
    if (page.length < pageRows) return;
    await nextTurn();
  }
}

function addJob(hour: JobHour, { queuedAt, startedAt, endedAt }: JobTimes): void {
  const quarter = Math.floor(queuedAt / quarterMs);
  add(hour.queued, quarter, 1);
  const leftAt = startedAt ?? endedAt;
  if (leftAt === null) {
    hour.isSettled = false;
    return;
  }
  // Clocks of forges differ from ours: nobody leaves before coming.
  add(hour.left, Math.floor(Math.max(leftAt, queuedAt) / quarterMs), 1);
  if (startedAt === null) return;
  const waits = hour.waits.get(quarter) ?? new Map<number, number>();
  hour.waits.set(quarter, waits);
  add(waits, waitBucket(startedAt - queuedAt), 1);
}

function addMachine(hour: MachineHour, machine: MachineLife, now: number): void {
  const { claimedAt, bornAt, goneAt, price } = machine;
  if (goneAt === null) hour.isSettled = false;
  if (bornAt === null) return;
  const until = goneAt ?? now;
  const total = goneAt === null ? cost(price, claimedAt, now) : machine.costMicroUsd;
  const lived = Math.max(1, until - claimedAt);
  for (const quarter of quarters(claimedAt, Math.max(until, claimedAt + 1))) {
    const from = Math.max(claimedAt, quarter * quarterMs);
    const share = Math.max(0, Math.min(until, (quarter + 1) * quarterMs) - from);
    add(hour.seconds, quarter, share / 1000);
    add(hour.microUsd, quarter, (total * share) / lived);
  }
}

function quarters(from: number, to: number): number[] {
  const first = Math.floor(from / quarterMs);
  return Array.from({ length: Math.ceil(to / quarterMs) - first }, (_, index) => first + index);
}

function total(parts: readonly Sums[]): Sums {
  const all: Sums = new Map();
  for (const part of parts) for (const [key, amount] of part) add(all, key, amount);
  return all;
}

function summed(sums: Sums, from: number, to: number): number {
  return quarters(from, to).reduce((amount, quarter) => amount + (sums.get(quarter) ?? 0), 0);
}

function merged(hours: readonly JobHour[], from: number, to: number): Sums {
  const all: Sums = new Map();
  for (const quarter of quarters(from, to)) {
    for (const hour of hours) {
      for (const [bucket, count] of hour.waits.get(quarter) ?? []) add(all, bucket, count);
    }
  }
  return all;
}

/** Waits are counted by steps of 5 %: as exact as anybody reads off a plot, in little room. */
const stepOfWait = Math.log(1.05);

function waitBucket(ms: number): number {
  return Math.round(Math.log(Math.max(1, ms)) / stepOfWait);
}

function percentile(waits: Sums, share: number): number | null {
  const sorted = [...waits].sort(([a], [b]) => a - b);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [bucket, count] of sorted) {
    seen += count;
    if (seen >= total * share) return Math.round(Math.exp(bucket * stepOfWait));
  }
  return null;
}

function add(sums: Sums, key: number, amount: number): void {
  sums.set(key, (sums.get(key) ?? 0) + amount);
}
