import { nextStep } from "../../domain/lifecycle.ts";
import { plan, warmClass, type PlanAction } from "../../domain/planner.ts";
import type { Pool } from "../../domain/pool.ts";
import type { Arrivals } from "../../domain/learner.ts";
import type { Runner, RunnerState } from "../../domain/runner.ts";
import { warmAt } from "../../domain/schedule.ts";
import { openWarmth, type Warmth } from "./learning.ts";
import { always, oneJob } from "./policy.ts";
import type {
  ClassView,
  Decision,
  MachineState,
  MachineView,
  Policy,
  PolicyAction,
  PolicyView,
} from "./policy.ts";

/** As the fleet's: a round is at most this long after the last, whatever was heard. */
const tickMs = 5000;
/** As the fleet's: classes that a round looks at. */
const classesMax = 200;

/** Mayfly itself: the planner and the deadlines that a server runs by, as they are. */
export const mayfly: Policy = mayflyTaught(new Map());

/**
 * Mayfly whose pools that learn have seen jobs come before: `taught`, by the pools' names. What it
 * learns after that, it learns from the trace, as a server does.
 */
export function mayflyTaught(taught: ReadonlyMap<string, readonly Arrivals[]>): Policy {
  return {
    name: "mayfly",
    about: "a machine for each job, by this planner",
    source: "the planner and the lifecycle of this version",
    assumptions: [
      "Providers never refuse, and make any number of machines at once.",
      "News of a job reaches the planner at once.",
    ],
    open: (pool, provider) => {
      const ownClass = warmClass(pool);
      const warmth = openWarmth(pool, provider, taught.get(pool.name) ?? []);
      return {
        machine: oneJob,
        wakesOn: always,
        decide: (view) => round(pool, ownClass, view, warmth),
      };
    },
  };
}

/** One round of the reconciler: the plan, carried out, then what is due by a deadline. */
function round(pool: Pool, ownClass: string, view: PolicyView, warmth: Warmth | null): Decision {
  const { now, total } = view;
  const alive = total.booting + total.idle + total.busy;
  const room = pool.max - alive - total.ending;
  const wanting = view.wanting(Math.min(classesMax, Math.max(0, room) + 1));
  const surplus = surplusOf([ownClass, ...(warmth?.classes ?? [])], view);
  const learned = warmth?.targets({ pool, now, total, surplus }, view.newlyQueued()) ?? [];
  const planned = plan({ pool, now, total, wanting, surplus, learned, backOff: null });
  const due = new Deadlines(pool, view);
  const actions = due.actions;
  for (const action of planned) carryOut(action, view, actions);

  let soon = nextWindowEdge(pool, now);
  for (const { since } of wanting) {
    if (since + patienceMs > now) soon = Math.min(soon, since + patienceMs);
  }
  if (alive > pool.min) {
    const kept = new Map(learned.map(({ labelClass, count }) => [labelClass, count]));
    kept.set(ownClass, Math.max(warmAt(pool, now), kept.get(ownClass) ?? 0));
    for (const one of surplus) soon = Math.min(soon, retiresAt(pool, kept, one, view));
  }
  const nextAt = Math.min(due.nextAt, warmth?.nextAt ?? Infinity);
  return { actions, nextAt: Math.min(nextAt, atTick(now, soon)) };
}

/** As the planner's: so long the machines of other labels are left to a forge that may use them. */
const patienceMs = 30_000;

/** With the warm classes among them, however many others there are. */
function surplusOf(always: readonly string[], view: PolicyView): readonly ClassView[] {
  const some = view.surplus(classesMax);
  if (some.length < classesMax) return some;
  const warm = always.flatMap((labelClass) => view.ofClass(labelClass) ?? []);
  return [...new Set([...warm, ...some])];
}

function carryOut(action: PlanAction, view: PolicyView, actions: PolicyAction[]): void {
  if (action.kind === "hold") return;
  const { labelClass, count } = action;
  if (action.kind === "claim") {
    actions.push({ kind: "start", labelClass, count });
    return;
  }
  const before = view.now - action.idleForSeconds * 1000;
  let left = count;
  for (const machine of view.machines(action.state, labelClass)) {
    if (left-- === 0 || (machine.upAt ?? machine.startedAt) > before) return;
    actions.push({ kind: "stop", machine: machine.id });
  }
}

/** What a server does to single machines when their time is up, and when it does so next. */
class Deadlines {
  readonly actions: PolicyAction[] = [];
  nextAt = Infinity;

  constructor(pool: Pool, view: PolicyView) {
    for (const state of ["booting", "idle"] as const) this.#look(pool, view, state);
  }

  /** Machines are told by how long they are in a state: the first that may wait ends the search. */
  #look(pool: Pool, view: PolicyView, state: MachineState): void {
    for (const machine of view.machines(state)) {
      const step = nextStep(asRunner(machine), pool, view.now);
      if (step.do === "wait") {
        this.nextAt = Math.min(this.nextAt, step.until ?? Infinity);
        return;
      }
      this.actions.push({ kind: "stop", machine: machine.id });
    }
  }
}

/** Of a runner, what its deadlines hang on. */
function asRunner({ state, startedAt, upAt }: MachineView): Runner {
  const states: Record<MachineState, RunnerState> = {
    booting: "asked",
    idle: "up",
    busy: "started",
  };
  return { ...blank, state: states[state], claimedAt: startedAt, askedAt: startedAt, upAt };
}

const blank: Runner = {
  name: "",
  pool: "",
  forge: "",
  provider: "",
  labels: [],
  labelClass: "",
  size: { cpu: 0, memoryMb: 0, diskGb: 0, gpu: 0, architecture: "x64" },
  price: { microUsdPerHour: 0, quantumSeconds: 1, minimumSeconds: 0 },
  state: "asked",
  reason: "",
  job: null,
  claimedAt: 0,
  askedAt: null,
  bornAt: null,
  upAt: null,
  handedAt: null,
  startedAt: null,
  finishedAt: null,
  endedAt: null,
  goneAt: null,
  dueAt: null,
  tries: 0,
  costMicroUsd: 0,
};

/**
 * When the planner would let go of machines of a class if nothing happened; Infinity: never. A
 * server plans at every tick; here the ticks at which nothing can change are left out.
 */
function retiresAt(
  pool: Pool,
  warm: ReadonlyMap<string, number>,
  one: ClassView,
  view: PolicyView,
): number {
  const { labelClass, idle, waiting, since } = one;
  const kept = waiting + (warm.get(labelClass) ?? 0);
  if (idle <= kept) return Infinity;
  for (const { upAt } of view.machines("idle", labelClass)) {
    return Math.max(since, upAt ?? since) + pool.idleSeconds * 1000;
  }
  return Infinity;
}

/** The first tick at or after a moment, counted from now: now itself is over. */
function atTick(now: number, moment: number): number {
  return now + Math.max(1, Math.ceil((moment - now) / tickMs)) * tickMs;
}

const dayMs = 24 * 3600 * 1000;

/** When another window of the pool's schedule begins or ends. */
function nextWindowEdge({ schedule }: Pool, now: number): number {
  const midnight = Math.floor(now / dayMs) * dayMs;
  let next = Infinity;
  for (const { from, to } of schedule) {
    for (const minute of [from, to]) {
      const edge = midnight + minute * 60_000;
      next = Math.min(next, edge > now ? edge : edge + dayMs);
    }
  }
  return next;
}
