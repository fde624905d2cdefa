import type { LabelRule } from "../../domain/matching.ts";
import type { Pool } from "../../domain/pool.ts";
import type { PoolTotal } from "../../domain/planner.ts";
import type { Size } from "../../domain/size.ts";
import { List, node, type Node } from "./list.ts";
import type { Phase, SimMachine } from "./machine.ts";
import { Suiting, type LabelSet } from "./placing.ts";
import type { ClassView, MachineState, MachineView, PolicyView } from "./policy.ts";
import { JobQueue, type JobLinkArrays } from "./queue.ts";

type Live = Exclude<Phase, "gone">;
type ByPhase = Readonly<Record<Live, List<SimMachine>>>;

const phasesOf: Readonly<Record<MachineState, readonly Live[]>> = {
  booting: ["booting"],
  idle: ["idle"],
  busy: ["partly", "full"],
};

/**
 * The machines and waiting jobs of one label class, counted as the store's tallies are. Most classes
 * may live for one job only, so what costs memory is there only while something waits or lives.
 */
export class PoolClass implements ClassView, LabelSet {
  readonly key: string;
  readonly labels: readonly string[];
  readonly size: Size;
  readonly waitingJobs: JobQueue;
  /** In the list of those that want machines, or of those with too many. */
  readonly place: Node<PoolClass> = node<PoolClass>(this);
  /** In the list of those with idle machines. */
  readonly idlePlace: Node<PoolClass> = node<PoolClass>(this);
  since = 0;
  /** The classes whose jobs its machines take: worked out when first needed. */
  takes: ReadonlySet<PoolClass> | null = null;
  #phases: ByPhase | null = null;

  constructor({ key, labels, size }: LabelSet, links: JobLinkArrays) {
    this.key = key;
    this.labels = labels;
    this.size = size;
    this.waitingJobs = new JobQueue(links);
  }

  /** Nothing of it waits or lives any more. */
  rest(): void {
    this.#phases = null;
    this.takes = null;
  }

  get phases(): ByPhase {
    return (this.#phases ??= byPhase());
  }
  get labelClass(): string {
    return this.key;
  }
  get waiting(): number {
    return this.waitingJobs.length;
  }
  get booting(): number {
    return this.#phases?.booting.length ?? 0;
  }
  get idle(): number {
    return this.#phases?.idle.length ?? 0;
  }
  get busy(): number {
    return (this.#phases?.full.length ?? 0) + this.partly;
  }
  get partly(): number {
    return this.#phases?.partly.length ?? 0;
  }
  get ending(): number {
    return this.#phases?.ending.length ?? 0;
  }
}

/** One pool of a run: its queue and machines, and which job goes to which. */
export class PoolState implements PolicyView {
  readonly pool: Pool;
  readonly classes: ReadonlyMap<string, PoolClass>;
  /** Every waiting job, whatever its class. */
  readonly waitingJobs: JobQueue;
  readonly ever = { queued: 0, started: 0, ended: 0 };
  now = 0;
  readonly #slots: number;
  readonly #queuedAt: Float64Array;
  readonly #phases: ByPhase = byPhase();
  /** Machines of the pool itself, apart from those of classes. */
  readonly #own: ByPhase = byPhase();
  readonly #wanting = new List<PoolClass>();
  readonly #surplus = new List<PoolClass>();
  readonly #withIdle = new List<PoolClass>();
  #newlyQueued = new Map<string, number>();
  readonly #suiting: Suiting<PoolClass>;

  constructor(
    pool: Pool,
    sets: readonly LabelSet[],
    rule: LabelRule,
    links: JobLinks,
    slots: number,
  ) {
    this.#slots = slots;
    this.pool = pool;
    this.classes = new Map(sets.map((set) => [set.key, new PoolClass(set, links.inClass)]));
    this.waitingJobs = new JobQueue(links.inPool);
    this.#queuedAt = links.queuedAt;
    this.#suiting = new Suiting([...this.classes.values()], rule);
  }

  get total(): PoolTotal {
    const { booting, idle, partly, full, ending } = this.#phases;
    return {
      waiting: this.waitingJobs.length,
      booting: booting.length,
      idle: idle.length,
      busy: partly.length + full.length,
      ending: ending.length,
    };
  }

  /** Machines that are there, and so count against the pool's limit. */
  get alive(): number {
    const { booting, idle, partly, full, ending } = this.#phases;
    return booting.length + idle.length + partly.length + full.length + ending.length;
  }

  get freeSlots(): number {
    let free = this.#phases.idle.length * this.#slots;
    for (const { running } of this.#phases.partly) free += this.#slots - running;
    return free;
  }

  get oldestQueuedAt(): number | null {
    const first = this.waitingJobs.first;
    return first === -1 ? null : this.#queuedAt[first]!;
  }

  newlyQueued(): ReadonlyMap<string, number> {
    const news = this.#newlyQueued;
    if (news.size > 0) this.#newlyQueued = new Map();
    return news;
  }

  wanting(limit: number): readonly ClassView[] {
    return firstOf(this.#wanting, limit);
  }

  surplus(limit: number): readonly ClassView[] {
    return firstOf(this.#surplus, limit);
  }

  ofClass(labelClass: string): ClassView | null {
    return this.classes.get(labelClass) ?? null;
  }

  *machines(state?: MachineState, labelClass?: string | null): Iterable<MachineView> {
    const lists = this.#listsOf(labelClass);
    if (lists === null) return;
    const states = state === undefined ? (["booting", "idle", "busy"] as const) : [state];
    for (const one of states) for (const phase of phasesOf[one]) yield* lists[phase];
  }

  /** Every machine that is there, those ending too. */
  left(): SimMachine[] {
    return Object.values(this.#phases).flatMap((list) => [...list]);
  }

  addMachine(machine: SimMachine): void {
    this.#put(machine, "booting");
    if (machine.of !== null) this.#recount(machine.of);
  }

  /** From one phase into another; the counts follow. */
  moveMachine(machine: SimMachine, to: Phase): void {
    this.#move(machine, to);
    if (machine.of !== null) this.#recount(machine.of);
  }

  addJob(job: number, of: PoolClass): void {
    of.waitingJobs.push(job);
    this.waitingJobs.push(job);
    this.ever.queued++;
    this.#newlyQueued.set(of.key, (this.#newlyQueued.get(of.key) ?? 0) + 1);
    this.#recount(of);
  }

  /** A machine takes a waiting job: one change of the counts, as it is one in the store. */
  startJob(job: number, of: PoolClass, machine: SimMachine, to: Phase): void {
    of.waitingJobs.delete(job);
    this.waitingJobs.delete(job);
    this.ever.started++;
    this.#move(machine, to);
    this.#recount(of);
    if (machine.of !== null && machine.of !== of) this.#recount(machine.of);
  }

  /** The longest waiting job that a machine may take; -1: none. */
  jobFor(machine: SimMachine): number {
    if (machine.of === null) return this.waitingJobs.first;
    let best = -1;
    for (const { waitingJobs } of this.#takes(machine.of)) {
      const { first } = waitingJobs;
      // Jobs are numbered in the order of queueing.
      if (first !== -1 && (best === -1 || first < best)) best = first;
    }
    return best;
  }

  /** The machine that has had a slot free for longest among those that may take a job of a class. */
  machineFor(of: PoolClass): SimMachine | null {
    let best = longer(this.#own.idle.first?.value, this.#own.partly.first?.value);
    for (const offered of this.#withIdle) {
      if (!this.#takes(offered).has(of)) continue;
      const { idle, partly } = offered.phases;
      best = longer(best ?? undefined, longer(idle.first?.value, partly.first?.value) ?? undefined);
    }
    return best;
  }

  #listsOf(labelClass: string | null | undefined): ByPhase | null {
    if (labelClass === undefined) return this.#phases;
    if (labelClass === null) return this.#own;
    return this.classes.get(labelClass)?.phases ?? null;
  }

  #move(machine: SimMachine, to: Phase): void {
    machine.phase = to;
    machine.since = this.now;
    if (to !== "gone") return this.#put(machine, to);
    machine.inPool.list?.delete(machine.inPool);
    machine.inClass.list?.delete(machine.inClass);
  }

  #put(machine: SimMachine, phase: Live): void {
    this.#phases[phase].push(machine.inPool);
    (machine.of?.phases ?? this.#own)[phase].push(machine.inClass);
  }

  /** Keeps a class in the lists where it belongs; it comes in at the end, as the latest. */
  #recount(of: PoolClass): void {
    const gap = of.waiting - of.booting - of.idle;
    const belongs = gap > 0 ? this.#wanting : gap < 0 ? this.#surplus : null;
    const { place, idlePlace } = of;
    if (place.list !== belongs) {
      if (belongs === null) place.list?.delete(place);
      else {
        belongs.push(place);
        of.since = this.now;
      }
    }
    const hasFree = of.idle + of.partly > 0;
    if (hasFree && idlePlace.list === null) this.#withIdle.push(idlePlace);
    else if (!hasFree && idlePlace.list !== null) this.#withIdle.delete(idlePlace);
    if (of.waiting + of.booting + of.idle + of.busy + of.ending === 0) of.rest();
  }

  #takes(of: PoolClass): ReadonlySet<PoolClass> {
    return (of.takes ??= new Set(this.#suiting.takenBy(of)));
  }
}

/** What the queues of a run share: its jobs' links and times, by the number of the job. */
export interface JobLinks {
  readonly queuedAt: Float64Array;
  readonly inPool: JobLinkArrays;
  readonly inClass: JobLinkArrays;
}

function byPhase(): ByPhase {
  return {
    booting: new List(),
    idle: new List(),
    partly: new List(),
    full: new List(),
    ending: new List(),
  };
}

function firstOf<T>(list: List<T>, limit: number): T[] {
  const some: T[] = [];
  for (let node = list.first; node !== null && some.length < limit; node = node.after) {
    some.push(node.value);
  }
  return some;
}

function longer(a: SimMachine | undefined, b: SimMachine | undefined): SimMachine | null {
  if (a === undefined || b === undefined) return a ?? b ?? null;
  return a.since < b.since || (a.since === b.since && a.id < b.id) ? a : b;
}
