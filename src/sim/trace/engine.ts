import { cost } from "../../domain/money.ts";
import { Heap } from "./heap.ts";
import { openLanes, type Lane, type Route } from "./lanes.ts";
import { Ledger } from "./ledger.ts";
import { SimMachine, type Phase } from "./machine.ts";
import type { Policy, PolicyAction, Wakes } from "./policy.ts";
import type { PoolClass } from "./pool-state.ts";
import type { Run, RunOptions } from "./run.ts";
import { bootMs, type Setting } from "./setting.ts";
import type { Trace } from "./trace.ts";

/** What happens to a machine: it comes up, ends a job, or is gone. */
interface Happening {
  readonly lane: Lane;
  readonly machine: SimMachine;
  readonly what: "up" | "done" | "gone";
}

/** Rounds within one moment in which no job starts: with more, the policy does not come to rest. */
const roundsAtOnceMax = 1000;
/** Jobs that wait with nothing started for so long are not waited for. */
const hopelessMs = 7 * 24 * 3600 * 1000;

/**
 * Runs a trace against a setting under one policy until its last job has ended; machines that are
 * left then are counted up to that moment. The same parts and the same chance give the same run.
 */
export function runTrace(trace: Trace, setting: Setting, policy: Policy, options: RunOptions): Run {
  return new Simulation(trace, setting, policy, options).run();
}

class Simulation {
  readonly #trace: Trace;
  readonly #options: RunOptions;
  readonly #lanes: readonly Lane[];
  readonly #routes: readonly Route[];
  readonly #unplaced = new Map<string, number>();
  readonly #happenings = new Heap<Happening>();
  readonly #waitMs: Float64Array;
  readonly #ledger: Ledger;
  /** Those alive, by their number. */
  readonly #machines = new Map<number, SimMachine>();
  #now: number;
  #nextJob = 0;
  #waiting = 0;
  #running = 0;
  #lastStartAt: number;
  #machineIds = 0;
  #rounds = 0;

  constructor(trace: Trace, setting: Setting, policy: Policy, options: RunOptions) {
    this.#trace = trace;
    this.#options = options;
    this.#now = trace.queuedAt[0] ?? 0;
    this.#lastStartAt = this.#now;
    this.#ledger = new Ledger(this.#now, options.stepMs);
    this.#waitMs = new Float64Array(trace.count).fill(NaN);
    const { lanes, routes } = openLanes(trace, setting, policy);
    this.#lanes = lanes;
    this.#routes = routes;
  }

  run(): Run {
    while (!this.#isOver()) {
      const next = this.#nextAt();
      if (next === Infinity) break;
      this.#rounds = next === this.#now ? this.#rounds + 1 : 0;
      if (this.#rounds > roundsAtOnceMax) throw new Error("the policy does not come to rest");
      this.#now = next;
      for (const { state } of this.#lanes) state.now = next;
      while (this.#happenings.nextAt <= next) this.#happen(this.#happenings.take());
      while (this.#nextQueuedAt() <= next) this.#queue(this.#nextJob++);
      for (const lane of this.#lanes) {
        if (lane.isStirred || lane.nextAt <= next) this.#decide(lane);
      }
    }
    for (const lane of this.#lanes) this.#close(lane);
    return {
      waitMs: this.#waitMs,
      pools: this.#lanes.map(({ run }) => run),
      ledger: this.#ledger,
      unplaced: this.#unplaced,
      endedAt: this.#now,
    };
  }

  #isOver(): boolean {
    if (this.#nextJob < this.#trace.count || this.#running > 0) return false;
    return this.#waiting === 0 || this.#now - this.#lastStartAt > hopelessMs;
  }

  #nextAt(): number {
    let next = Math.min(this.#nextQueuedAt(), this.#happenings.nextAt);
    for (const { nextAt } of this.#lanes) next = Math.min(next, nextAt);
    // A policy may ask for a moment that has passed: it gets this one.
    return Math.max(next, this.#now);
  }

  #nextQueuedAt(): number {
    return this.#nextJob < this.#trace.count ? this.#trace.queuedAt[this.#nextJob]! : Infinity;
  }

  #queue(job: number): void {
    const route = this.#routes[this.#trace.kind[job]!]!;
    if ("reason" in route) {
      this.#unplaced.set(route.reason, (this.#unplaced.get(route.reason) ?? 0) + 1);
      return;
    }
    const { lane, of } = route;
    lane.run.jobs++;
    lane.state.addJob(job, of);
    this.#changeWaiting(1);
    stir(lane, "queued");
    const machine = lane.state.machineFor(of);
    if (machine !== null) this.#start(lane, machine, job, of);
  }

  #happen({ lane, machine, what }: Happening): void {
    if (what === "gone") return this.#gone(lane, machine);
    if (what === "up") {
      // It may have been stopped while it booted.
      if (machine.phase !== "booting") return;
      machine.upAt = this.#now;
      stir(lane, "machines");
    } else {
      machine.running--;
      machine.done++;
      this.#running--;
      lane.state.ever.ended++;
      stir(lane, "jobs");
    }
    this.#settle(lane, machine);
  }

  /** What a machine does that came up or ended a job: the next job, idling, or its end. */
  #settle(lane: Lane, machine: SimMachine): void {
    const { jobsPerMachine } = lane.policy.machine;
    const isSpent = machine.isDraining || machine.done + machine.running >= jobsPerMachine;
    if (isSpent) return machine.running === 0 ? this.#end(lane, machine) : undefined;
    this.#move(lane, machine, machine.running === 0 ? "idle" : "partly");
    while (machine.phase === "idle" || machine.phase === "partly") {
      const job = lane.state.jobFor(machine);
      if (job === -1) return;
      const route = this.#routes[this.#trace.kind[job]!]!;
      if ("of" in route) this.#start(lane, machine, job, route.of);
    }
  }

  #start(lane: Lane, machine: SimMachine, job: number, of: PoolClass): void {
    const { slots, jobsPerMachine } = lane.policy.machine;
    machine.running++;
    this.#running++;
    const isFull = machine.running >= slots || machine.done + machine.running >= jobsPerMachine;
    this.#spend(machine);
    lane.state.startJob(job, of, machine, isFull ? "full" : "partly");
    this.#changeWaiting(-1);
    this.#waitMs[job] = this.#now - this.#trace.queuedAt[job]!;
    this.#lastStartAt = this.#now;
    this.#rounds = 0;
    const { run, state } = lane;
    const duration = this.#trace.durationMs[job]!;
    run.started++;
    if (duration > state.pool.jobDeadlineSeconds * 1000) run.overlong++;
    this.#happenings.add(this.#now + duration, { lane, machine, what: "done" });
    stir(lane, "jobs");
  }

  #decide(lane: Lane): void {
    lane.isStirred = false;
    const { actions, nextAt } = lane.policy.decide(lane.state);
    lane.nextAt = nextAt;
    for (const action of actions) this.#act(lane, action);
  }

  #act(lane: Lane, action: PolicyAction): void {
    if (action.kind === "start") {
      const { state } = lane;
      const of = action.labelClass === null ? null : state.classes.get(action.labelClass);
      if (of === undefined) throw new Error(`no label class ${action.labelClass}`);
      const count = Math.min(action.count, state.pool.max - state.alive);
      for (let i = 0; i < count; i++) this.#boot(lane, of);
      return;
    }
    const machine = this.#machines.get(action.machine);
    if (machine === undefined || machine.phase === "ending") return;
    if (machine.running === 0) return this.#end(lane, machine);
    machine.isDraining = true;
    if (machine.phase === "partly") this.#move(lane, machine, "full");
  }

  #boot(lane: Lane, of: PoolClass | null): void {
    const { state, provider, run } = lane;
    const price = provider.price(of?.size ?? state.pool.size);
    const machine = new SimMachine(++this.#machineIds, of, price, this.#now);
    this.#machines.set(machine.id, machine);
    state.addMachine(machine);
    run.machines++;
    run.peakMachines = Math.max(run.peakMachines, state.alive);
    this.#ledger.changeAlive(1);
    const upAt = this.#now + bootMs(provider.boot, this.#options.chance());
    this.#happenings.add(upAt, { lane, machine, what: "up" });
  }

  #end(lane: Lane, machine: SimMachine): void {
    this.#move(lane, machine, "ending");
    stir(lane, "machines");
    const goneAt = this.#now + lane.provider.endingMs;
    this.#happenings.add(goneAt, { lane, machine, what: "gone" });
  }

  /** Its bill is final. */
  #gone(lane: Lane, machine: SimMachine): void {
    this.#move(lane, machine, "gone");
    this.#machines.delete(machine.id);
    this.#ledger.changeAlive(-1);
    stir(lane, "machines");
    const { run, state } = lane;
    const microUsd = cost(machine.price, machine.startedAt, this.#now);
    run.machineMs += this.#now - machine.startedAt;
    run.microUsd += microUsd;
    this.#options.onMachine?.({
      pool: state.pool.name,
      provider: run.provider,
      labelClass: machine.labelClass,
      startedAt: machine.startedAt,
      goneAt: this.#now,
      jobs: machine.done,
      microUsd,
    });
  }

  #move(lane: Lane, machine: SimMachine, to: Phase): void {
    this.#spend(machine);
    lane.state.moveMachine(machine, to);
  }

  #spend({ phase, since }: SimMachine): void {
    if (phase !== "gone") this.#ledger.spend(phase, since, this.#now);
  }

  #changeWaiting(by: number): void {
    this.#waiting += by;
    this.#ledger.wait(this.#now, this.#waiting);
  }

  /** The run is over, and with it what is left of its machines. */
  #close(lane: Lane): void {
    for (const machine of lane.state.left()) this.#gone(lane, machine);
  }
}

function stir(lane: Lane, by: keyof Wakes): void {
  if (lane.policy.wakesOn[by]) lane.isStirred = true;
}
