/*
 * How many jobs of one label class come within the next two minutes, learned from how many came
 * before. No model of why: moments that look alike (quiet at this hour of such a day; so many jobs
 * in the last minutes) are counted together, with what followed each of them. Pushes queue a few
 * jobs at once and many more soon after, so what just came says more than the hour does.
 */

/** Arrivals are counted in steps of this length, which begin at its multiples. */
export const stepMs = 15_000;
/** What is forecast: arrivals within so many steps, about what a machine takes to boot. */
export const horizonSteps = 8;
/** Arrivals within so many steps tell moments apart; after as many without any it is quiet. */
export const memorySteps = 60;
/** More than so many at once are not told apart, and never kept ready. */
export const countMax = 16;

const halfLifeMs = 21 * 24 * 3600 * 1000;
/** A forecast needs to have seen a day. */
const stepsLeast = (24 * 3600 * 1000) / stepMs;
/** An hour of the day is mixed with so many steps of any quiet hour, until it has its own. */
const priorSteps = 200;

/** Hours of working days, hours of Saturdays and Sundays. */
const quietSituations = 48;
const subsiding = [quietSituations, quietSituations + 1] as const;
const bursting = quietSituations + 2;
/** Steps since the last arrival, below each of which a burst is in another stage. */
const stages = [2, 8, 20] as const;
const sizes = [2, 4, 7, 12, 20, Infinity] as const;
const situations = bursting + stages.length * sizes.length;
const stepsOfBurst = stages[2];

/** A moment's chance that the `count`th machine kept ready is used soon. */
export interface Chance {
  readonly situation: number;
  readonly count: number;
  /** That so many jobs or more come within the horizon. */
  readonly chance: number;
  /** Of all time, what part is spent in this situation. */
  readonly share: number;
}

/** What is kept of a history: its own format, read by `ArrivalHistory.restored` only. */
export interface SavedHistory {
  readonly recent: readonly number[];
  readonly seen: readonly (readonly number[])[];
}

/** What came of one label class, of a fixed size however long and however much. */
export class ArrivalHistory {
  /** Arrivals of the last steps, the newest last. */
  #recent: number[] = Array.from({ length: memorySteps }, () => 0);
  /** For each situation, how often 0, 1, 2, ... arrivals followed it, newer ones counting more. */
  readonly #seen: number[][] = Array.from({ length: situations }, () => []);

  static restored({ recent, seen }: SavedHistory): ArrivalHistory {
    const history = new ArrivalHistory();
    history.#recent = [...history.#recent, ...recent].slice(-memorySteps - horizonSteps);
    seen.slice(0, situations).forEach((counts, index) => {
      history.#seen[index] = counts.slice(0, countMax + 1);
    });
    return history;
  }

  /** A step has passed: `count` came in the one that began at `at` (ms). */
  step(at: number, count: number, weight: number): void {
    this.#recent.push(count);
    // The situation before the horizon that ends now, of which it is now known what followed.
    const then = this.#recent.slice(-horizonSteps - memorySteps, -horizonSteps);
    if (then.length === memorySteps) {
      const followed = Math.min(countMax, sum(this.#recent.slice(-horizonSteps)));
      const counts = this.#seen[situationOf(then, at - (horizonSteps - 1) * stepMs)]!;
      while (counts.length <= followed) counts.push(0);
      counts[followed]! += weight;
    }
    if (this.#recent.length > memorySteps + horizonSteps) this.#recent.shift();
  }

  /** Where we are, `fresh` being the arrivals of the steps since the last that was counted. */
  situation(now: number, fresh: readonly number[]): number {
    return situationOf([...this.#recent, ...fresh].slice(-memorySteps), now);
  }

  /** Every chance that was ever seen; none before a day. `weight` is what a step counts now. */
  chances(weight: number): Chance[] {
    const sums = this.#seen.map(sum);
    const total = sum(sums);
    if (total < stepsLeast * weight * 0.9) return [];
    const quiet = this.#seen.slice(0, quietSituations);
    const quietTotal = sum(sums.slice(0, quietSituations));
    const chances: Chance[] = [];
    for (let count = 1; count <= countMax; count++) {
      const quietTail = sum(quiet.map((counts) => tail(counts, count)));
      for (let situation = 0; situation < situations; situation++) {
        const own = sums[situation]!;
        if (own === 0) continue;
        const prior = situation < quietSituations ? priorSteps * weight : 0;
        const mixed = prior === 0 ? 0 : (prior * quietTail) / quietTotal;
        const chance = (tail(this.#seen[situation]!, count) + mixed) / (own + prior);
        if (chance > 0) chances.push({ situation, count, chance, share: own / total });
      }
    }
    return chances;
  }

  /** Weights are given in steps of now, so that they can begin again at one. */
  save(weight: number): SavedHistory {
    return {
      recent: this.#recent,
      seen: this.#seen.map((counts) =>
        counts.map((count) => Number((count / weight).toPrecision(4))),
      ),
    };
  }
}

/** What a step at `at` counts, when one at `origin` counts one: half as much every three weeks back. */
export function weightAt(at: number, origin: number): number {
  return 2 ** ((at - origin) / halfLifeMs);
}

/** Which of the situations a moment is in, by the arrivals of the last steps, the newest last. */
function situationOf(recent: readonly number[], at: number): number {
  const last = recent.findLastIndex((count) => count > 0);
  if (last === -1) return quietAt(at);
  const since = recent.length - 1 - last;
  const stage = stages.findIndex((below) => since < below);
  if (stage === -1) return subsiding[sum(recent) < 6 ? 0 : 1];
  const size = sizes.findIndex((below) => sum(recent.slice(-stepsOfBurst)) < below);
  return bursting + stage * sizes.length + size;
}

function quietAt(at: number): number {
  const hour = Math.floor(at / 3_600_000);
  // The epoch began on a Thursday.
  const day = (Math.floor(hour / 24) + 4) % 7;
  return (day === 0 || day === 6 ? 24 : 0) + (hour % 24);
}

/** A situation in words: `working days 09h UTC, quiet`, `4 to 6 jobs in the last 5 min`. */
export function situationText(situation: number): string {
  if (situation < quietSituations) {
    const hour = String(situation % 24).padStart(2, "0");
    return `${situation < 24 ? "working days" : "weekends"} ${hour}h UTC, quiet`;
  }
  if (situation < bursting) return "a few minutes after the last job";
  const size = (situation - bursting) % sizes.length;
  const least = size === 0 ? 1 : sizes[size - 1]!;
  const most = sizes[size]! - 1;
  const count =
    most === Infinity ? `${least} or more` : least === most ? `${least}` : `${least} to ${most}`;
  return `${count} ${most === 1 ? "job" : "jobs"} in the last 5 min`;
}

function tail(counts: readonly number[], from: number): number {
  return sum(counts.slice(from));
}

function sum(numbers: readonly number[]): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
