import { MayflyError } from "../domain/errors.ts";
import { BoundedMap } from "../forges/bounded-map.ts";
import type { ForgeRun, RunLookUp, RunWithJobs } from "../forges/forge.ts";
import { within, type Clock } from "../fleet/clock.ts";
import type { Log } from "../fleet/log.ts";

export interface LookUpsParts {
  readonly runs: RunLookUp;
  readonly clock: Clock;
  readonly log: Log;
}

/** A run's state, or the forge's failure to tell it, holds for so long. */
const freshMs = 2_000;
/** A list is asked for anew after the first, and not gone by any more after the second. */
const listAgingMs = 3_000;
const listOldMs = 6_000;
const callMs = 10_000;
const runsMax = 1_000;
const runsAtOnce = 10;
/** Questions that may wait for an answer; the others are told to come back. */
const inLineMax = 200;
/** Runs asked for by their number whatever the lists show: few are, but in a flood. */
const askedPerMinute = 20;

interface Listed {
  at: number;
  runs: readonly ForgeRun[];
  underWay: Promise<readonly ForgeRun[]> | null;
}

interface Known {
  readonly at: number;
  /** Rejects when the forge could not tell. */
  readonly run: Promise<RunWithJobs | null>;
}

/**
 * What the forge says of runs, bounded against a flood from outside. A repository's list of runs does
 * not depend on what is asked, so any number of questions costs one list in three seconds. A run is
 * looked up by itself when the list shows it or few are asked for, and once in two seconds.
 */
export class LookUps {
  readonly #parts: LookUpsParts;
  readonly #lists = new Map<string, Listed>();
  readonly #runs = new BoundedMap<string, Known>(runsMax);
  readonly #line: (() => void)[] = [];
  #waiting = 0;
  #atWork = 0;
  #minute = { from: 0, asked: 0 };

  constructor(parts: LookUpsParts) {
    this.#parts = parts;
  }

  /**
   * A configured repository's open runs, newest first, six seconds old at most: a run that asks for
   * something has mostly been there for longer.
   */
  async open(repository: string): Promise<readonly ForgeRun[]> {
    const { clock } = this.#parts;
    const listed = this.#lists.get(repository) ?? { at: -Infinity, runs: [], underWay: null };
    this.#lists.set(repository, listed);
    const age = clock.now() - listed.at;
    if (age < listAgingMs) return listed.runs;
    const newer = (): Promise<readonly ForgeRun[]> =>
      (listed.underWay ??= this.#list(repository, listed));
    if (age >= listOldMs) return this.#wait(newer);
    newer().catch(() => {});
    return listed.runs;
  }

  /** A run with its jobs; null: there is none. Throws `too_many` when too many wait for an answer. */
  run(repository: string, id: string): Promise<RunWithJobs | null> {
    return this.#wait(() => {
      const key = `${repository}#${id}`;
      const known = this.#runs.get(key);
      const now = this.#parts.clock.now();
      if (known !== undefined && now - known.at < freshMs) return known.run;
      const run = this.#find(repository, id);
      this.#runs.set(key, { at: now, run });
      return run;
    });
  }

  /** Whether a list that is new enough shows a run. Asks nobody. */
  lists(repository: string, id: string): boolean {
    const listed = this.#lists.get(repository);
    if (listed === undefined || this.#parts.clock.now() - listed.at >= listOldMs) return false;
    return listed.runs.some((run) => run.id === id);
  }

  /** Whether a run that no list shows may be asked for: it is known, or this minute has room. */
  mayAsk(repository: string, id: string): boolean {
    if (this.#runs.get(`${repository}#${id}`) !== undefined) return true;
    const minute = Math.floor(this.#parts.clock.now() / 60_000);
    if (minute !== this.#minute.from) this.#minute = { from: minute, asked: 0 };
    // Where many ask, the list is there before it is needed.
    if (this.#minute.asked >= askedPerMinute / 2) this.open(repository).catch(() => {});
    if (this.#minute.asked >= askedPerMinute) return false;
    this.#minute.asked += 1;
    return true;
  }

  /** A failure holds like an answer: a forge in trouble is not asked by everybody at once. */
  #list(repository: string, listed: Listed): Promise<readonly ForgeRun[]> {
    const { clock, runs } = this.#parts;
    const at = clock.now();
    const asking = this.#ask((signal) => runs.open(repository, signal));
    asking.then(
      (found) => Object.assign(listed, { at, runs: found, underWay: null }),
      () => clock.after(freshMs, () => (listed.underWay = null)),
    );
    return asking;
  }

  async #find(repository: string, id: string): Promise<RunWithJobs | null> {
    await this.#enter();
    try {
      return await this.#ask((signal) => this.#parts.runs.find(repository, id, signal));
    } finally {
      this.#leave();
    }
  }

  async #wait<T>(answer: () => Promise<T>): Promise<T> {
    if (this.#waiting >= inLineMax) {
      throw new MayflyError("too_many", "too many orders wait for the forge's answer", {
        hint: "Ask again in a few seconds.",
      });
    }
    this.#waiting += 1;
    try {
      return await answer();
    } finally {
      this.#waiting -= 1;
    }
  }

  async #enter(): Promise<void> {
    if (this.#atWork < runsAtOnce) {
      this.#atWork += 1;
      return;
    }
    // Whoever leaves hands its place over.
    await new Promise<void>((resolve) => this.#line.push(resolve));
  }

  #leave(): void {
    const next = this.#line.shift();
    if (next === undefined) this.#atWork -= 1;
    else next();
  }

  /** What the forge's trouble is about is the operator's to know, not a stranger's. */
  async #ask<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, log } = this.#parts;
    const { signal } = new AbortController();
    try {
      return await within(clock, callMs, signal, call);
    } catch (error) {
      const failure = error instanceof Error ? error.message : String(error);
      log.warn({ failure }, "the broker cannot look up runs");
      throw new MayflyError("unavailable", "the forge could not be asked about the run", {
        hint: "Ask again in a minute.",
      });
    }
  }
}
