import type { Pool } from "../../../domain/pool.ts";
import { warmAt } from "../../../domain/schedule.ts";
import {
  oneJob,
  type Decision,
  type MachineView,
  type Policy,
  type PolicyAction,
  type PolicyView,
  type PoolPolicy,
} from "../policy.ts";
import { Batches, isTick, start, tickAfter } from "./loop.ts";

/** `delay_webhook_event`, variables.tf: the scale-up lambda sees a job's event no earlier. */
const delayMs = 30_000;
/** `runners_scale_up_lambda_timeout`, variables.tf, is the queue's visibility timeout (main.tf). */
const retryMs = 30_000;
/** `scale_down_schedule_expression`, variables.tf: `cron(*\/5 * * * ? *)`. */
const scaleDownMs = 5 * 60_000;
/** `minimum_running_time_in_minutes` on Linux, modules/runners/scale-down.tf. */
const minimumRunningMs = 5 * 60_000;
/** `schedule_expression` as docs/configuration.md gives it: `cron(* * * * ? *)`. */
const poolMs = 60_000;

const source =
  "github-aws-runners/terraform-aws-github-runner v7.9.0: variables.tf, modules/runners/scale-down.tf, " +
  "lambdas/functions/control-plane/src (scale-runners/scale-up.ts, scale-runners/scale-down.ts, " +
  "pool/pool.ts), docs/configuration.md";
const assumptions = [
  "`max` is its runners_maximum_count.",
  "Its lambdas take no time and read any number of events at once (really ten by default).",
  "Instances boot as long as a machine of ours does.",
];

export const terraformEphemeral: Policy = {
  name: "terraform-aws-ephemeral",
  about:
    "An instance for each job's event, 30 s after it; a lambda tops a pool of idle ones up each " +
    "minute; each five minutes, idle ones older than five are ended.",
  source,
  assumptions: [
    "`warm` with its `schedule` is the pool lambda's size; idle_config is empty, as by default.",
    ...assumptions,
  ],
  open: (pool) => new TerraformPool(pool, true),
};

export const terraformReused: Policy = {
  name: "terraform-aws-reused",
  about:
    "An instance for each job still queued 30 s after its event, used for job after job; each five " +
    "minutes, idle ones older than five are ended.",
  source,
  assumptions: [
    "`warm` with its `schedule` is the idle count of idle_config; there is no pool lambda.",
    "Jobs find a used machine, unlike with every other policy here but Woodpecker's.",
    ...assumptions,
  ],
  open: (pool) => new TerraformPool(pool, false),
};

class TerraformPool implements PoolPolicy {
  readonly machine;
  readonly wakesOn = { queued: true, machines: false, jobs: false };
  readonly #pool: Pool;
  readonly #isEphemeral: boolean;
  /** Events of jobs not seen by the scale-up lambda yet. */
  readonly #events = new Batches();
  /** Jobs that wait though their events were seen: the next to start. */
  #seen = 0;
  #queued = 0;
  #started = 0;
  #tickedAt = -1;

  constructor(pool: Pool, isEphemeral: boolean) {
    this.#pool = pool;
    this.#isEphemeral = isEphemeral;
    this.machine = isEphemeral ? oneJob : { jobsPerMachine: Infinity, slots: 1 };
  }

  decide(view: PolicyView): Decision {
    const { now, ever } = view;
    this.#events.add(ever.queued - this.#queued, now + delayMs);
    // Not ephemeral: `enable_job_queued_check` passes over the events of jobs that have begun.
    if (!this.#isEphemeral) this.#dropStarted(ever.started - this.#started);
    this.#queued = ever.queued;
    this.#started = ever.started;

    const { booting, idle, busy, ending } = view.total;
    const room = Math.max(0, this.#pool.max - booting - idle - busy - ending);
    const asked = this.#scaleUp(now, room);
    const isNew = this.#tickedAt !== now;
    this.#tickedAt = now;
    const size = this.#isEphemeral && isNew && isTick(now, poolMs) ? warmAt(this.#pool, now) : 0;
    const topUp = Math.max(0, Math.min(size - booting - idle - asked, room - asked));
    const actions = [
      ...start(asked + topUp),
      ...(isNew && isTick(now, scaleDownMs) ? this.#scaleDown(view) : []),
    ];
    const nextTick = tickAfter(now, this.#isEphemeral ? poolMs : scaleDownMs);
    return { actions, nextAt: Math.min(nextTick, this.#events.nextDueAt) };
  }

  #dropStarted(count: number): void {
    const ofSeen = Math.min(count, this.#seen);
    this.#seen -= ofSeen;
    this.#events.drop(count - ofSeen);
  }

  /** Ephemeral: what there is no room for is tried again. Reused: it is dropped, some runner will do it. */
  #scaleUp(now: number, room: number): number {
    let asked = 0;
    this.#events.due(now, (count) => {
      const served = Math.min(count, room - asked);
      asked += served;
      this.#seen += count;
      return {
        served,
        servedAgainAt: Infinity,
        othersAt: this.#isEphemeral ? now + retryMs : Infinity,
      };
    });
    return asked;
  }

  /** Newest first, of which the idle count is kept; busy ones use it up too. */
  #scaleDown(view: PolicyView): PolicyAction[] {
    const { now } = view;
    let keep = this.#isEphemeral ? 0 : warmAt(this.#pool, now);
    const registered: MachineView[] = [];
    for (const state of ["idle", "busy"] as const) registered.push(...view.machines(state));
    registered.sort((a, b) => b.startedAt - a.startedAt);
    const actions: PolicyAction[] = [];
    for (const { id, state, startedAt } of registered) {
      if (startedAt + minimumRunningMs >= now) continue;
      if (keep > 0) keep--;
      else if (state === "idle") actions.push({ kind: "stop", machine: id });
    }
    return actions;
  }
}
