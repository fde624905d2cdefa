import { stepMs } from "../domain/forecast.ts";
import { Learner, learnedFirstMs, type Arrivals, type ReadyView } from "../domain/learner.ts";
import type { WarmTarget } from "../domain/planner.ts";
import type { Pool, WarmBudget } from "../domain/pool.ts";
import type { Price } from "../domain/money.ts";
import { arrivalsBetween, findForecast, saveForecast } from "../store/arrivals.ts";
import { addFacts } from "../store/facts.ts";
import { checkLease, type Lease } from "../store/leases.ts";
import type { Store } from "../store/store.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";

/** Jobs of the last steps are not counted yet: news of them may be late. */
const lagMs = 2 * stepMs;
/** The jobs table is asked no more often. */
const readMs = 5000;
/** Learned in one round at most: at first there are weeks to catch up with. */
const chunkMs = 24 * 3600 * 1000;
const saveMs = 600_000;

export interface WarmthParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** What a machine of a label class costs. */
  readonly priceOf: (labelClass: string) => Price;
}

/**
 * A pool's learner between the rounds of its reconciler: reads what came from the jobs, keeps what
 * was learned in the store, and begins anew from there whenever the lease has changed hands.
 */
export class Warmth {
  readonly #pool: Pool;
  readonly #budget: WarmBudget;
  readonly #parts: WarmthParts;
  #learner: Learner;
  #fence: number | null = null;
  #fresh: readonly Arrivals[] = [];
  #readAt = -Infinity;
  #savedAt = -Infinity;
  #isStopped = false;

  constructor(pool: Pool, budget: WarmBudget, parts: WarmthParts) {
    this.#pool = pool;
    this.#budget = budget;
    this.#parts = parts;
    this.#learner = new Learner(budget);
  }

  /** Classes that it may want kept ready: the planner must see what of them stands ready. */
  get classes(): readonly string[] {
    return this.#learner.classes;
  }

  /** Once a round, before it plans. */
  async targets(lease: Lease, view: ReadyView): Promise<readonly WarmTarget[]> {
    const { now } = view;
    await this.#load(lease, now);
    if (now - this.#readAt >= readMs) {
      await this.#learn(now);
      this.#readAt = now;
    }
    const targets = this.#learner.targets(view, this.#fresh, (labelClass) =>
      this.#unitsPerHour(labelClass),
    );
    await this.#tell(lease, now);
    if (now - this.#savedAt >= saveMs) await this.#save(lease, now);
    return targets;
  }

  async #load(lease: Lease, now: number): Promise<void> {
    if (this.#fence === lease.fence) return;
    const saved = await findForecast(this.#parts.store.db, this.#pool.name);
    this.#learner = new Learner(this.#budget, saved);
    this.#learner.begin(now - learnedFirstMs);
    this.#isStopped = this.#learner.ledger.stopped(now) !== null;
    this.#fence = lease.fence;
    this.#readAt = -Infinity;
    this.#savedAt = now;
  }

  async #learn(now: number): Promise<void> {
    const { db } = this.#parts.store;
    const from = this.#learner.until ?? now;
    const to = Math.floor(Math.min(from + chunkMs, now - lagMs) / stepMs) * stepMs;
    if (to > from) {
      this.#learner.fold(to, await arrivalsBetween(db, this.#pool.name, { from, to, stepMs }));
    }
    const until = this.#learner.until ?? now;
    const isBehind = now - until > lagMs + 2 * stepMs;
    const range = { from: until, to: now, stepMs };
    this.#fresh = isBehind ? [] : await arrivalsBetween(db, this.#pool.name, range);
  }

  #unitsPerHour(labelClass: string): number {
    if (this.#budget.unit === "hours") return 1;
    return this.#parts.priceOf(labelClass).microUsdPerHour / 1_000_000;
  }

  /** Says once that the budget is spent, and once that there is some again. */
  async #tell(lease: Lease, now: number): Promise<void> {
    const { store, log } = this.#parts;
    const stopped = this.#learner.ledger.stopped(now);
    if ((stopped !== null) === this.#isStopped) return;
    this.#isStopped = stopped !== null;
    const reason =
      stopped === null
        ? "machines are kept ready by the forecast again"
        : `no machines are kept ready by the forecast: ${stopped}`;
    log.info({ pool: this.#pool.name }, reason);
    await store.write(async (tx) => {
      await checkLease(tx, lease);
      await addFacts(tx, [
        { subjectKind: "pool", subject: this.#pool.name, kind: "noted", reason },
      ]);
    });
  }

  async #save(lease: Lease, now: number): Promise<void> {
    const state = this.#learner.save();
    if (state === null) return;
    await this.#parts.store.write(async (tx) => {
      await checkLease(tx, lease);
      await saveForecast(tx, this.#pool.name, state);
    });
    this.#savedAt = now;
  }
}
