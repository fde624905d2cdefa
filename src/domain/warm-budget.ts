import type { WarmBudget } from "./pool.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const budgetDays = 30;
/** No day may take more than this part: a wrong forecast shall not eat a month in an afternoon. */
const dayPart = 0.1;
/** What is kept ready costs about so much more than the forecast alone: idle machines are kept on. */
const overrunFirst = 2;
const overrunLeast = 0.5;
const overrunMost = 5;
const overrunHalfLifeMs = 3 * dayMs;

export interface SavedLedger {
  /** Days since the epoch, and what was spent on each. */
  readonly days: readonly (readonly [number, number])[];
  readonly promised: number;
  readonly actual: number;
}

/**
 * What machines that stood ready by a forecast have cost, by day, in the budget's unit, and how much
 * of it may be spent yet.
 */
export class WarmLedger {
  readonly #budget: WarmBudget;
  readonly #days: Map<number, number>;
  #promised: number;
  #actual: number;

  constructor(budget: WarmBudget, saved: SavedLedger | null) {
    this.#budget = budget;
    this.#days = new Map(saved?.days ?? []);
    this.#promised = saved?.promised ?? budget.amount / budgetDays;
    this.#actual = saved?.actual ?? (budget.amount / budgetDays) * overrunFirst;
  }

  /** For `ms` before `now`, so many units an hour were meant to stand ready and so many did. */
  spend(now: number, ms: number, unitsPerHour: { promised: number; actual: number }): void {
    const hours = ms / hourMs;
    const day = Math.floor(now / dayMs);
    this.#days.set(day, (this.#days.get(day) ?? 0) + unitsPerHour.actual * hours);
    for (const old of this.#days.keys()) if (old <= day - budgetDays) this.#days.delete(old);
    const kept = 2 ** (-ms / overrunHalfLifeMs);
    this.#promised = this.#promised * kept + unitsPerHour.promised * hours;
    this.#actual = this.#actual * kept + unitsPerHour.actual * hours;
  }

  /** In the last thirty days. */
  spent(now: number): number {
    const first = Math.floor(now / dayMs) - budgetDays;
    let total = 0;
    for (const [day, amount] of this.#days) if (day > first) total += amount;
    return total;
  }

  /** Why nothing may be spent now; null: something may. */
  stopped(now: number): string | null {
    const { amount } = this.#budget;
    const spent = this.spent(now);
    if (spent >= amount) return `${this.text(amount)} are spent in ${budgetDays} days`;
    const today = this.#days.get(Math.floor(now / dayMs)) ?? 0;
    return today < amount * dayPart ? null : `${this.text(today)} are spent today, a tenth`;
  }

  /** Units that a forecast may promise to keep ready on average, so that as much is spent as allowed. */
  get allowance(): number {
    const overrun = this.#promised > 0 ? this.#actual / this.#promised : overrunFirst;
    const perHour = this.#budget.amount / (budgetDays * 24);
    return perHour / Math.min(overrunMost, Math.max(overrunLeast, overrun));
  }

  /** `$12.30`, `12.3 h`. */
  text(amount: number): string {
    return this.#budget.unit === "usd" ? `$${amount.toFixed(2)}` : `${amount.toFixed(1)} h`;
  }

  save(): SavedLedger {
    return { days: [...this.#days], promised: this.#promised, actual: this.#actual };
  }
}
