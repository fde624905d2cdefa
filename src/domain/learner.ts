import {
  ArrivalHistory,
  horizonSteps,
  memorySteps,
  situationText,
  stepMs,
  weightAt,
  type SavedHistory,
} from "./forecast.ts";
import { spareOf, warmClass, type PoolView, type WarmTarget } from "./planner.ts";
import type { WarmBudget } from "./pool.ts";
import { warmAt } from "./schedule.ts";
import { WarmLedger, type SavedLedger } from "./warm-budget.ts";

/** How much of the past a learner is told at first: working days and weekends, four of each. */
export const learnedFirstMs = 28 * 24 * 3600 * 1000;

/** Jobs of a label class that came in the step beginning at `at` (ms, a multiple of the step). */
export interface Arrivals {
  readonly labelClass: string;
  readonly at: number;
  readonly count: number;
}

/** Classes of a pool that are forecast: those with the most jobs. */
const classesMax = 8;
/** Classes whose jobs are counted, to find those; labels unique to one run come and go here. */
const candidatesMax = 64;
/** Jobs before a class is forecast. */
const jobsLeast = 10;
const classLengthMax = 1000;
const chanceLeast = 0.02;
const replanMs = 3_600_000;
const payMostMs = 60_000;

/** Of what the planner is shown, what stands ready. */
export type ReadyView = Pick<PoolView, "pool" | "now" | "total" | "surplus">;

interface Saved {
  readonly version: 1;
  readonly until: number;
  readonly scores: readonly (readonly [string, number])[];
  readonly histories: readonly (readonly [string, SavedHistory])[];
  readonly ledger: SavedLedger;
}

/**
 * Learns when a pool's jobs come and says what to keep ready, within a budget: the machines most
 * likely to be used soon, as many as the budget pays for. Knows nothing but what it is told; the
 * same news give the same answers. Its state has a fixed bound, and can be saved as text.
 */
export class Learner {
  readonly ledger: WarmLedger;
  readonly #histories = new Map<string, ArrivalHistory>();
  /** Weighted jobs by class. */
  readonly #scores = new Map<string, number>();
  #until: number | null = null;
  /** A step at this moment weighs one. */
  #origin = 0;
  /** By class and situation, how many to keep ready and how likely the last of them is used. */
  #kept = new Map<string, Map<number, { count: number; chance: number }>>();
  #plannedAt = -Infinity;
  #paidUntil: number | null = null;
  #rate = { promised: 0, actual: 0 };

  /** `saved` is what `save` gave; anything else, a newer version's too, begins anew. */
  constructor(budget: WarmBudget, saved: string | null = null) {
    const state = saved === null ? null : readSaved(saved);
    this.ledger = new WarmLedger(budget, state?.ledger ?? null);
    if (state === null) return;
    this.#until = this.#origin = state.until;
    for (const [key, score] of state.scores) this.#scores.set(key, score);
    for (const [key, history] of state.histories) {
      this.#histories.set(key, ArrivalHistory.restored(history));
    }
  }

  /** The label classes that it forecasts. */
  get classes(): readonly string[] {
    return [...this.#histories.keys()];
  }

  /** Up to when arrivals are counted; null: nothing was told yet. */
  get until(): number | null {
    return this.#until;
  }

  /** There is nothing to tell from before `at` (ms). Without effect once something was told. */
  begin(at: number): void {
    this.#until ??= this.#origin = Math.floor(at / stepMs) * stepMs;
  }

  /** Counts the steps from the last up to `until` (ms): all that came in them, in any order. */
  fold(until: number, arrivals: readonly Arrivals[]): void {
    const end = Math.floor(until / stepMs) * stepMs;
    this.begin(firstStep(arrivals) ?? end);
    const byStep = Map.groupBy(arrivals, ({ at }) => at);
    for (let at = this.#until ?? end; at < end; at += stepMs) this.#step(at, byStep.get(at) ?? []);
    this.#until = Math.max(this.#until ?? end, end);
  }

  #step(at: number, arrivals: readonly Arrivals[]): void {
    const weight = weightAt(at, this.#origin);
    const counts = new Map<string, number>();
    for (const { labelClass, count } of arrivals) {
      counts.set(labelClass, (counts.get(labelClass) ?? 0) + count);
      this.#score(labelClass, count * weight, weight);
    }
    for (const [key, history] of this.#histories) history.step(at, counts.get(key) ?? 0, weight);
  }

  #score(labelClass: string, worth: number, weight: number): void {
    if (labelClass.length > classLengthMax) return;
    const score = (this.#scores.get(labelClass) ?? 0) + worth;
    this.#scores.set(labelClass, score);
    if (this.#scores.size > candidatesMax) this.#scores.delete(least(this.#scores, labelClass));
    if (score < jobsLeast * weight || this.#histories.has(labelClass)) return;
    if (this.#histories.size >= classesMax) {
      const known = new Map(
        [...this.#histories.keys()].map((key) => [key, this.#scores.get(key) ?? 0]),
      );
      const last = least(known, null);
      if (known.get(last)! * 2 > score) return;
      this.#histories.delete(last);
    }
    this.#histories.set(labelClass, new ArrivalHistory());
    this.#plannedAt = -Infinity;
  }

  /**
   * What to keep ready now, `fresh` being what came since `until`; nothing once the budget is spent.
   * What stands ready already is paid for, from each call to the next. `unitsPerHour` is what a
   * machine of a class costs in the budget's unit.
   */
  targets(
    view: ReadyView,
    fresh: readonly Arrivals[],
    unitsPerHour: (labelClass: string) => number,
  ): readonly WarmTarget[] {
    const { now } = view;
    this.#pay(now);
    const targets = this.#wanted(now, fresh, unitsPerHour);
    this.#rate = {
      promised: this.#sumOf(
        targets.map(({ labelClass, count }) => [labelClass, count]),
        view,
        unitsPerHour,
      ),
      actual: this.#sumOf(
        view.surplus.map((one) => [one.labelClass, spareOf(one)]),
        view,
        unitsPerHour,
      ),
    };
    return targets;
  }

  #pay(now: number): void {
    // A manager that was not there did not decide either.
    const ms = this.#paidUntil === null ? 0 : Math.min(now - this.#paidUntil, payMostMs);
    if (ms > 0) this.ledger.spend(now, ms, this.#rate);
    this.#paidUntil = now;
  }

  /** Units an hour of machines beyond those that the configuration keeps by itself. */
  #sumOf(
    counts: readonly (readonly [string, number])[],
    { pool, now, total }: ReadyView,
    unitsPerHour: (labelClass: string) => number,
  ): number {
    let units = 0;
    for (const [labelClass, count] of counts) {
      if (!this.#histories.has(labelClass)) continue;
      const isOwn = labelClass === warmClass(pool);
      const kept = isOwn ? Math.max(warmAt(pool, now), pool.min - total.busy) : 0;
      units += Math.max(0, count - kept) * unitsPerHour(labelClass);
    }
    return units;
  }

  #wanted(
    now: number,
    fresh: readonly Arrivals[],
    unitsPerHour: (labelClass: string) => number,
  ): WarmTarget[] {
    // Without the last minutes nobody knows where we are: there is a past to be told first.
    if (this.#until === null || now - this.#until > memorySteps * stepMs) return [];
    if (this.ledger.stopped(now) !== null) return [];
    // By what it was told, not by the time: a past that is told at once is a lot of news.
    if (this.#until - this.#plannedAt >= replanMs) this.#replan(this.#until, unitsPerHour);
    const targets: WarmTarget[] = [];
    for (const [labelClass, kept] of this.#kept) {
      const history = this.#histories.get(labelClass);
      const situation = history?.situation(now, stepsSince(this.#until, now, labelClass, fresh));
      const best = situation === undefined ? undefined : kept.get(situation);
      if (situation === undefined || best === undefined) continue;
      const when = `within ${(horizonSteps * stepMs) / 60_000} min`;
      const likely = `${Math.round(best.chance * 100)} % likely`;
      const reason = `${best.count} expected ${when} (${likely}; ${situationText(situation)})`;
      targets.push({ labelClass, count: best.count, reason });
    }
    return targets;
  }

  /** Chooses the likeliest uses that the allowance pays for, over all classes and situations. */
  #replan(until: number, unitsPerHour: (labelClass: string) => number): void {
    const weight = weightAt(until, this.#origin);
    const all = [...this.#histories].flatMap(([labelClass, history]) =>
      history.chances(weight).map((one) => ({ ...one, labelClass })),
    );
    all.sort((a, b) => b.chance - a.chance || a.count - b.count);
    let left = this.ledger.allowance;
    this.#kept = new Map();
    this.#plannedAt = until;
    for (const { labelClass, situation, count, chance, share } of all) {
      left -= share * unitsPerHour(labelClass);
      if (left < 0 || chance < chanceLeast) return;
      const kept =
        this.#kept.get(labelClass) ?? new Map<number, { count: number; chance: number }>();
      this.#kept.set(labelClass, kept);
      // The chance of one more is never higher, so each comes after the one before it.
      kept.set(situation, { count, chance });
    }
  }

  /** A text for `new Learner`. Its length is bounded: some tens of kilobytes. */
  save(): string | null {
    if (this.#until === null) return null;
    const weight = weightAt(this.#until, this.#origin);
    const saved: Saved = {
      version: 1,
      until: this.#until,
      scores: [...this.#scores].map(([key, score]) => [key, score / weight]),
      histories: [...this.#histories].map(([key, history]) => [key, history.save(weight)]),
      ledger: this.ledger.save(),
    };
    return JSON.stringify(saved);
  }
}

function readSaved(text: string): Saved | null {
  try {
    const saved = JSON.parse(text) as Saved;
    return saved.version === 1 ? saved : null;
  } catch {
    return null;
  }
}

/** Arrivals of one class by step, from `from` up to the step that `now` is in. */
function stepsSince(
  from: number,
  now: number,
  labelClass: string,
  fresh: readonly Arrivals[],
): number[] {
  const length = Math.min(memorySteps, Math.max(0, Math.floor((now - from) / stepMs) + 1));
  const steps = Array.from({ length }, () => 0);
  for (const one of fresh) {
    const index = (one.at - from) / stepMs;
    if (one.labelClass === labelClass && index in steps) steps[index]! += one.count;
  }
  return steps;
}

function firstStep(arrivals: readonly Arrivals[]): number | null {
  return arrivals.reduce<number | null>((least, { at }) => Math.min(least ?? at, at), null);
}

function least(scores: ReadonlyMap<string, number>, except: string | null): string {
  let found = "";
  let lowest = Infinity;
  for (const [key, score] of scores) {
    if (score < lowest && key !== except) [found, lowest] = [key, score];
  }
  return found;
}
