import type { Pool } from "../../../domain/pool.ts";
import {
  oneJob,
  type Decision,
  type Policy,
  type PolicyAction,
  type PolicyView,
  type PoolPolicy,
} from "../policy.ts";
import { Batches, isTick, nothing, start, tickAfter } from "./loop.ts";

/** `PoolConsilitationInterval`, runner/common/pool.go: looks at queued jobs and at idle runners. */
const loopMs = 5_000;
/** `PoolScaleDownInterval`, runner/common/pool.go. */
const scaleDownMs = 60_000;
/** `MinimumJobAgeBackoff`, its default in database/sql/controller.go. */
const jobAgeMs = 30_000;
/** `consumeQueuedJobs`, runner/pool/pool.go: a job still queued after so long is unlocked. */
const unlockMs = 600_000;
/** `scaleDownOnePool`, runner/pool/pool.go. */
const scaleDownFactor = 0.5;

/**
 * GARM 0.2.1 (github.com/cloudbase/garm). Its 0.1.5 wanted an idle runner to be two minutes old
 * before it scaled it down; 0.2.1 asks for no age.
 */
export const garm: Policy = {
  name: "garm",
  about:
    "A runner for each job that is still queued after 30 s, and as many idle ones as `warm` says; " +
    "each minute half of the surplus is let go.",
  source:
    "cloudbase/garm v0.2.1: runner/pool/pool.go (consumeQueuedJobs, ensureIdleRunnersForOnePool, " +
    "scaleDownOnePool), runner/common/pool.go (intervals), database/sql/controller.go (job age)",
  assumptions: [
    "`warm` is its min_idle_runners and `max` its max_runners; it knows no hours.",
    "The lock that it breaks when a runner made for one job takes another is left out.",
    "Webhooks arrive at once and are never lost; no call fails.",
  ],
  open: (pool) => new GarmPool(pool),
};

class GarmPool implements PoolPolicy {
  readonly machine = oneJob;
  readonly wakesOn = { queued: true, machines: false, jobs: false };
  readonly #max: number;
  readonly #minIdle: number;
  readonly #jobs = new Batches();
  #queued = 0;
  #started = 0;
  #loopedAt = -1;

  constructor({ max, warm }: Pool) {
    this.#max = max;
    this.#minIdle = warm;
  }

  decide(view: PolicyView): Decision {
    const { now } = view;
    this.#note(view);
    if (!isTick(now, loopMs) || this.#loopedAt === now) return nothing(tickAfter(now, loopMs));
    this.#loopedAt = now;
    const { booting, idle, busy, ending } = view.total;
    const room = Math.max(0, this.#max - booting - idle - busy - ending);
    const wanted = this.#forJobs(now, room);
    const kept = Math.min(room - wanted, this.#minIdle - booting - idle - wanted);
    const actions = [
      ...start(wanted + Math.max(0, kept)),
      ...(isTick(now, scaleDownMs) ? this.#scaleDown(view) : []),
    ];
    return { actions, nextAt: tickAfter(now, loopMs) };
  }

  #note({ now, ever }: PolicyView): void {
    this.#jobs.add(ever.queued - this.#queued, now + jobAgeMs);
    this.#jobs.drop(ever.started - this.#started);
    this.#queued = ever.queued;
    this.#started = ever.started;
  }

  /** It makes a runner for each queued job by itself; idle ones had the job's first 30 s to take it. */
  #forJobs(now: number, room: number): number {
    let wanted = 0;
    this.#jobs.due(now, (count) => {
      const served = Math.min(count, room - wanted);
      wanted += served;
      // To lock or unlock a job renews the time that its age is counted from.
      return { served, servedAgainAt: now + unlockMs + jobAgeMs, othersAt: now + jobAgeMs };
    });
    return wanted;
  }

  #scaleDown(view: PolicyView): PolicyAction[] {
    const { idle, waiting } = view.total;
    const surplus = idle - (this.#minIdle + waiting);
    const actions: PolicyAction[] = [];
    if (surplus <= 0) return actions;
    const count = Math.ceil(surplus * scaleDownFactor);
    for (const { id } of view.machines("idle")) {
      if (actions.length === count) break;
      actions.push({ kind: "stop", machine: id });
    }
    return actions;
  }
}
