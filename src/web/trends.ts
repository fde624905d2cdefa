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
    this.#jobHours = new Hours(now, (from) => readJobHour(store.db, from));
    this.#machineHours = new Hours(now, (from) => readMachineHour(store.db, from, now()));
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

/** Hours of history, read once each; those that may still change again after a while. */
class Hours<T extends { isSettled: boolean }> {
  readonly #now: () => number;
  readonly #read: (from: number) => Promise<T>;
  readonly #kept = new Map<number, { readonly hour: Promise<T>; staleAt: number }>();

  constructor(now: () => number, read: (from: number) => Promise<T>) {
    this.#now = now;
    this.#read = read;
  }

  async between(from: number, to: number): Promise<T[]> {
    const hours: T[] = [];
    for (let at = Math.floor(from / hourMs) * hourMs; at < to; at += hourMs) {
      hours.push(await this.#at(at));
    }
    return hours;
  }

  async #at(from: number): Promise<T> {
    const known = this.#kept.get(from);
    if (known !== undefined && this.#now() < known.staleAt) return known.hour;
    const entry = { hour: this.#read(from), staleAt: this.#now() + freshMs };
    this.#kept.delete(from);
    this.#kept.set(from, entry);
    if (this.#kept.size > hoursKept) this.#forgetOldest();
    try {
      const hour = await entry.hour;
      if (hour.isSettled && from + hourMs + lateMs < this.#now()) entry.staleAt = Infinity;
      return hour;
    } catch (error) {
      this.#kept.delete(from);
      throw error;
    }
  }

  #forgetOldest(): void {
    const oldest = Math.min(...this.#kept.keys());
    this.#kept.delete(oldest);
  }
}

/** A forge may tell of a job this long after it was queued. */
const lateMs = hourMs;

async function readJobHour(db: Database, from: number): Promise<JobHour> {
  const hour: JobHour = { queued: new Map(), left: new Map(), waits: new Map(), isSettled: true };
  let last: JobTimes | null = null;
  for (;;) {
    const page: JobTimes[] = await jobTimes(db, from, from + hourMs, last, pageRows);
    for (const job of page) addJob(hour, job);
    last = page.at(-1) ?? null;
    if (page.length < pageRows) return hour;
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

async function readMachineHour(db: Database, from: number, now: number): Promise<MachineHour> {
  const hour: MachineHour = { seconds: new Map(), microUsd: new Map(), isSettled: true };
  let last: MachineLife | null = null;
  for (;;) {
    const page: MachineLife[] = await machineLives(db, from, from + hourMs, last, pageRows);
    for (const machine of page) addMachine(hour, machine, now);
    last = page.at(-1) ?? null;
    if (page.length < pageRows) return hour;
    await nextTurn();
  }
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
