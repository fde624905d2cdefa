import type { Pool } from "../../../domain/pool.ts";
import {
  never,
  type Decision,
  type Policy,
  type PolicyAction,
  type PolicyView,
  type PoolPolicy,
} from "../policy.ts";
import { isTick, nothing, start, tickAfter } from "./loop.ts";

/* Defaults of cmd/woodpecker-autoscaler/flags.go. */
const reconcileMs = 60_000;
const workflowsPerAgent = 2;
const idleTimeoutMs = 10 * 60_000;

/** The autoscaler of Woodpecker 1.5.0. */
export const woodpecker: Policy = {
  name: "woodpecker",
  about:
    "Each minute, agents enough for what runs and waits, two jobs to an agent at once, used for job " +
    "after job; an agent is ended when there are too many and it has done nothing for ten minutes.",
  source:
    "woodpecker-ci/autoscaler 1.5.0: engine/autoscaler.go (calcAgents, createAgents, drainAgents, " +
    "removeDrainedAgents), cmd/woodpecker-autoscaler/flags.go (defaults)",
  assumptions: [
    "`max` is its max-agents; the larger of `min` and half of `warm` is its min-agents.",
    "Two jobs share a machine of the size that one has to itself elsewhere, and take no longer.",
    "Jobs find a used machine.",
    "A provider that bills by the second: it keeps agents to the end of an hour that is paid by the hour.",
  ],
  open: (pool) => new WoodpeckerPool(pool),
};

class WoodpeckerPool implements PoolPolicy {
  readonly machine = { jobsPerMachine: Infinity, slots: workflowsPerAgent };
  readonly wakesOn = never;
  readonly #max: number;
  readonly #min: number;
  #reconciledAt = -1;

  constructor({ max, min, warm }: Pool) {
    this.#max = max;
    this.#min = Math.max(min, Math.ceil(warm / workflowsPerAgent));
  }

  decide(view: PolicyView): Decision {
    const { now, freeSlots, total, ever } = view;
    const nextAt = tickAfter(now, reconcileMs);
    if (!isTick(now, reconcileMs) || this.#reconciledAt === now) return nothing(nextAt);
    this.#reconciledAt = now;
    const running = ever.started - ever.ended;
    // Agents that boot are no capacity yet: what waits for them asks for others again.
    const available = Math.ceil((freeSlots + running) / workflowsPerAgent);
    const wanted = Math.ceil((total.waiting + running) / workflowsPerAgent);
    const agents = total.booting + total.idle + total.busy;
    const change = Math.min(Math.max(wanted - available, this.#min - agents), this.#max - agents);
    const actions = change < 0 ? stopIdle(view, -change) : start(change);
    return { actions, nextAt };
  }
}

/** Those without work for long enough; one that never had any counts as long without. */
function stopIdle(view: PolicyView, count: number): PolicyAction[] {
  const actions: PolicyAction[] = [];
  for (const { id, done, idleSince } of view.machines("idle")) {
    if (actions.length === count) break;
    const isLong = done === 0 || (idleSince !== null && view.now - idleSince >= idleTimeoutMs);
    if (isLong) actions.push({ kind: "stop", machine: id });
  }
  return actions;
}
