import type { Pool } from "../../../domain/pool.ts";
import {
  always,
  oneJob,
  type Decision,
  type Policy,
  type PolicyAction,
  type PolicyView,
  type PoolPolicy,
} from "../policy.ts";
import { start } from "./loop.ts";

/** The service holds a listener's request for about so long (actions/scaleset v0.4.0, README.md). */
const pollMs = 50_000;

/** actions-runner-controller 0.14.2, its runner scale sets (not the older summerwind resources). */
export const arc: Policy = {
  name: "arc",
  about: "As many runners as jobs assigned and `warm` idle ones together, at once.",
  source:
    "actions/actions-runner-controller gha-runner-scale-set 0.14.2: cmd/ghalistener/scaler/scaler.go " +
    "(setDesiredWorkerState), controllers/actions.github.com/ephemeralrunnerset_controller.go; " +
    "actions/scaleset v0.4.0: listener/listener.go",
  assumptions: [
    "`warm` is its minRunners and `max` its maxRunners; it knows no hours.",
    "A runner boots as long as a machine of ours does; pods on nodes that are up are faster, and " +
      "nodes that have to be added are slower.",
    "The service's messages arrive at once; no call fails.",
  ],
  open: (pool) => new ArcPool(pool),
};

class ArcPool implements PoolPolicy {
  readonly machine = oneJob;
  readonly wakesOn = always;
  readonly #max: number;
  readonly #min: number;
  /** What its listener was last told by: changes of these are messages. */
  #heard = { queued: 0, started: 0, ended: 0 };
  #heardAt = -Infinity;

  constructor({ max, warm }: Pool) {
    this.#max = max;
    this.#min = warm;
  }

  decide(view: PolicyView): Decision {
    const { waiting, booting, idle, busy } = view.total;
    const { queued, started, ended } = view.ever;
    const { now } = view;
    const heard = this.#heard;
    if (queued !== heard.queued || started !== heard.started || ended !== heard.ended) {
      this.#heard = { queued, started, ended };
      this.#heardAt = now;
    }
    const assigned = waiting + busy;
    const replicas = Math.min(this.#min + assigned, this.#max);
    const total = booting + idle + busy;
    if (total < replicas) return { actions: start(replicas - total), nextAt: now + pollMs };
    // Only when nothing is assigned and a whole poll brought no news is anything taken away.
    const isQuiet = now - this.#heardAt >= pollMs && replicas === this.#min;
    const actions = isQuiet ? stopIdle(view, total - replicas) : [];
    return { actions, nextAt: total === replicas ? Infinity : now + pollMs };
  }
}

/** It skips those that have not registered yet, and those with a job. */
function stopIdle(view: PolicyView, count: number): PolicyAction[] {
  const actions: PolicyAction[] = [];
  if (count <= 0) return actions;
  for (const { id } of view.machines("idle")) {
    actions.push({ kind: "stop", machine: id });
    if (actions.length === count) break;
  }
  return actions;
}
