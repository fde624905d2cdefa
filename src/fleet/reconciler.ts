import { nextStep } from "../domain/lifecycle.ts";
import { wantsOnDemand } from "../domain/labels.ts";
import { parseLabelClass, place } from "../domain/matching.ts";
import { plan, warmClass, type PlanAction } from "../domain/planner.ts";
import type { Price } from "../domain/money.ts";
import type { Pool } from "../domain/pool.ts";
import type { Runner } from "../domain/runner.ts";
import type { Size } from "../domain/size.ts";
import { findBackOff } from "../store/back-offs.ts";
import { holdBack, holdsAny, releaseHeld } from "../store/holds.ts";
import { checkLease } from "../store/leases.ts";
import {
  dueRunners,
  nextDue,
  poolTotal,
  retirableRunners,
  surplusClasses,
  wantingClasses,
} from "../store/questions.ts";
import { rerunClasses } from "../store/reruns.ts";
import { postponeRunner, recordClaims } from "../store/runners.ts";
import { RunnerSteps, type StepParts } from "./steps.ts";
import type { HeldLease } from "./tenure.ts";
import { Warmth } from "./warmth.ts";

/** Runners of one pool acted on at once. What is beyond waits for the next round. */
const inFlightMax = 100;
const classesMax = 200;
const storeAgainMs = 1000;

export interface ReconcilerParts extends StepParts {
  readonly newName: (pool: string) => string;
  /** How late a forge's list may tell that a runner came up, ms. */
  readonly newsMs: number;
  /** False: only its runners are left, to be brought to their end. */
  readonly isConfigured: boolean;
}

/**
 * Carries out one pool's plan: claims before it calls, every call repeatable under the runner's
 * name, every failure with a decided next step. Only the holder of the pool's lease runs it.
 */
export class Reconciler {
  readonly pool: Pool;
  readonly #parts: ReconcilerParts;
  readonly #steps: RunnerSteps;
  readonly #inFlight = new Map<string, Promise<void>>();
  /** Null: the pool does not learn. */
  readonly #warmth: Warmth | null;
  #lastPlan: { at: number; actions: readonly PlanAction[] } | null = null;

  constructor(pool: Pool, parts: ReconcilerParts) {
    this.pool = pool;
    this.#parts = parts;
    this.#steps = new RunnerSteps(pool, parts);
    const priceOf = (labelClass: string): Price =>
      parts.calls.provider.price(this.#sizeOf(parseLabelClass(labelClass)));
    const { learn } = pool;
    this.#warmth = learn === null ? null : new Warmth(pool, learn, { ...parts, priceOf });
  }

  get lastPlan(): { at: number; actions: readonly PlanAction[] } | null {
    return this.#lastPlan;
  }

  /** One round under the lease. Resolves to when it wants the next, at the latest (ms). */
  async round(lease: HeldLease, signal: AbortSignal): Promise<number> {
    await this.#letIn(lease);
    const actions = await this.#plan(lease);
    await this.#claim(lease, actions);
    await this.#retire(lease, actions, signal);
    await this.#stepDue(lease, signal);
    // What is due already is under way, or waits for room: each end of a step makes a round.
    const { store, clock } = this.#parts;
    return (await nextDue(store.db, this.pool.name, clock.now())) ?? Infinity;
  }

  /** Resolves when no call of ours is under way. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#inFlight.values());
  }

  /** Jobs that were held back, as far as others of their repository are over. */
  async #letIn(lease: HeldLease): Promise<void> {
    const { store } = this.#parts;
    const { name, caps } = this.pool;
    if (caps.perRepository === null && caps.perOwner === null) return;
    if (!(await holdsAny(store.db, name))) return;
    await store.write(async (tx) => {
      await checkLease(tx, lease);
      await releaseHeld(tx, name, caps);
      await holdBack(tx, name, caps);
    });
  }

  async #plan(lease: HeldLease): Promise<readonly PlanAction[]> {
    const { store, clock } = this.#parts;
    const now = clock.now();
    const { name } = this.pool;
    const [total, providerBackOff, poolBackOff] = await Promise.all([
      poolTotal(store.db, name),
      findBackOff(store.db, `provider/${this.pool.provider}`),
      findBackOff(store.db, `pool/${name}`),
    ]);
    // No more classes than there is room for: then a round costs the same whatever waits.
    const room = this.pool.max - total.booting - total.idle - total.busy - total.ending;
    const [wanting, surplus] = await Promise.all([
      wantingClasses(store.db, name, Math.min(classesMax, Math.max(0, room) + 1)),
      surplusClasses(store.db, name, classesMax, [
        warmClass(this.pool),
        ...(this.#warmth?.classes ?? []),
      ]),
    ]);
    const learned = await this.#warmth?.targets(lease, { pool: this.pool, now, total, surplus });
    const holding = [poolBackOff, providerBackOff].find((it) => it !== null && it.until > now);
    const actions = plan({
      pool: this.pool,
      now,
      total,
      wanting,
      surplus,
      learned: learned ?? [],
      backOff: holding ?? null,
    });
    this.#lastPlan = { at: now, actions };
    return actions;
  }

  async #claim(lease: HeldLease, actions: readonly PlanAction[]): Promise<void> {
    const { store, calls, log, newName } = this.#parts;
    if (!actions.some(({ kind }) => kind === "claim")) return;
    const again = await rerunClasses(store.db, this.pool.name);
    const claims = actions.flatMap((action) => {
      if (action.kind !== "claim") return [];
      const labels = parseLabelClass(action.labelClass);
      const size = this.#sizeOf(labels);
      const isOnDemand = again.has(action.labelClass) || wantsOnDemand(labels);
      return Array.from({ length: Math.min(action.count, inFlightMax) }, () => ({
        name: newName(this.pool.name),
        pool: this.pool.name,
        forge: this.pool.forge,
        provider: this.pool.provider,
        labels,
        labelClass: action.labelClass,
        size,
        price: calls.provider.price(size, isOnDemand),
        reason: action.reason,
        ...(isOnDemand ? { isOnDemand } : {}),
      }));
    });
    if (claims.length === 0) return;
    const some = claims.slice(0, inFlightMax);
    const names = await store.write((tx) => recordClaims(tx, lease, some, this.pool.max));
    this.#steps.claimed(names);
    log.info(
      { pool: this.pool.name, runners: names, reason: some[0]?.reason },
      `claimed ${names.length}`,
    );
  }

  /** What the labels ask for; the pool's own size should they no longer fit it. */
  #sizeOf(labels: readonly string[]): Size {
    const { forge } = this.#parts;
    const [trust] = this.pool.accept;
    if (trust === undefined) return this.pool.size;
    const demand = { forge: this.pool.forge, labels, trust };
    const placement = place(demand, [this.pool], (asked, offered) => forge.match(asked, offered));
    return placement.pool === null ? this.pool.size : placement.size;
  }

  /** Idle (and, where the plan says so, booting) runners nobody wants: deregistered, then ended. */
  async #retire(
    lease: HeldLease,
    actions: readonly PlanAction[],
    signal: AbortSignal,
  ): Promise<void> {
    const { store, clock } = this.#parts;
    for (const action of actions) {
      if (action.kind !== "retire") continue;
      const runners = await retirableRunners(store.db, {
        pool: this.pool.name,
        labelClass: action.labelClass,
        states: action.state === "booting" ? ["claimed", "asked"] : ["up"],
        before: clock.now() - action.idleForSeconds * 1000,
        limit: Math.min(action.count, inFlightMax),
      });
      for (const runner of runners) {
        this.#start(runner, () => this.#steps.end(runner, lease, action, signal));
      }
    }
  }

  async #stepDue(lease: HeldLease, signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#parts;
    const room = inFlightMax - this.#inFlight.size;
    if (room <= 0) return;
    // Those in flight are still due: look past them.
    const due = await dueRunners(store.db, this.pool.name, clock.now(), inFlightMax);
    const waits: { runner: Runner; until: number }[] = [];
    for (const runner of due) {
      if (this.#inFlight.has(runner.name) || this.#inFlight.size >= inFlightMax) continue;
      const step = nextStep(
        runner,
        this.#parts.isConfigured ? this.pool : null,
        clock.now(),
        this.#parts.newsMs,
      );
      if (step.do === "wait") {
        if (step.until !== null) waits.push({ runner, until: step.until });
      } else if (step.do === "create") {
        this.#start(runner, () => this.#steps.create(runner, lease, signal));
      } else if (step.do === "begin") {
        this.#start(runner, () => this.#steps.begin(runner, lease, step.reason));
      } else if (step.do === "end") {
        this.#start(runner, () => this.#steps.end(runner, lease, step, signal));
      } else {
        this.#start(runner, () => this.#steps.remove(runner, lease, signal));
      }
    }
    if (waits.length === 0) return;
    await store.write(async (tx) => {
      await checkLease(tx, lease);
      for (const { runner, until } of waits) await postponeRunner(tx, runner, until, null);
    });
  }

  #start(runner: Runner, work: () => Promise<void>): void {
    const { name } = runner;
    if (this.#inFlight.has(name) || this.#inFlight.size >= inFlightMax) return;
    const { store, clock, log } = this.#parts;
    const topic = `pool/${this.pool.name}`;
    const running = work().then(
      () => {
        this.#inFlight.delete(name);
        store.wake(topic);
      },
      (error: unknown) => {
        // The store or the lease failed us; the runner stays due and is looked at again, not at once.
        this.#inFlight.delete(name);
        log.warn({ runner: name, error: String(error) }, "left for the next round");
        clock.after(storeAgainMs, () => store.wake(topic));
      },
    );
    this.#inFlight.set(name, running);
  }
}
