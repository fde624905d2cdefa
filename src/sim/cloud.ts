import { cost } from "../domain/money.ts";
import type { MachineSpec, Machine } from "../providers/provider.ts";
import type { Chance } from "./chance.ts";
import type { SimClock } from "./clock.ts";
import type { Faults } from "./faults.ts";
import type { SimForge } from "./forge.ts";
import type { ProviderPlan } from "./scenario.ts";

/** A machine as it truly is, kept when it is gone so that a lagging list can show it. */
export interface CloudMachine {
  readonly name: string;
  readonly spec: MachineSpec;
  readonly createdAt: number;
  /** Its program's end, whether it came to that by itself or not. */
  endedAt: number | null;
  exitCode: number | null;
  goneAt: number | null;
  /** Asked to end. */
  endingAt: number | null;
  /** Appeared when its runner was over already, as when a request was long on its way. */
  readonly isLate: boolean;
}

export interface CloudParts {
  readonly plan: ProviderPlan;
  readonly clock: SimClock;
  readonly chance: Chance;
  readonly faults: Faults;
  readonly forge: SimForge;
  readonly tell: (line: string) => void;
  /** Before a machine that still runs is ended from outside. */
  readonly ending: (machine: CloudMachine) => void;
  /** Whether the manager has given this machine up. */
  readonly isOver: (name: string) => boolean;
  readonly made: (machine: CloudMachine) => void;
}

/** A provider as it is, seen by nobody: machines that boot, take their one job, end, or die. */
export class Cloud {
  readonly name: string;
  readonly machines: CloudMachine[] = [];
  readonly #forgotten = new Set<string>();
  readonly #parts: CloudParts;

  constructor(parts: CloudParts) {
    this.#parts = parts;
    this.name = parts.plan.name;
  }

  find(name: string): CloudMachine | undefined {
    return this.machines.find((machine) => machine.name === name && machine.goneAt === null);
  }

  alive(): CloudMachine[] {
    return this.machines.filter(({ goneAt }) => goneAt === null);
  }

  /** Micro-dollars that the provider bills for all of it. */
  bill(): number {
    const now = this.#parts.clock.now();
    return this.machines.reduce(
      (sum, { createdAt, goneAt }) => sum + cost(this.#parts.plan.price, createdAt, goneAt ?? now),
      0,
    );
  }

  /** Makes a machine, or gives the one that has the name. */
  create(spec: MachineSpec): CloudMachine {
    const { clock, isOver, tell, made } = this.#parts;
    const known = this.find(spec.name);
    if (known !== undefined) return known;
    const isLate = isOver(spec.name);
    const machine: CloudMachine = {
      name: spec.name,
      spec,
      createdAt: clock.now(),
      endedAt: null,
      exitCode: null,
      goneAt: null,
      endingAt: null,
      isLate,
    };
    this.machines.push(machine);
    tell(`${this.name} makes ${spec.name}${isLate ? ", which nobody waits for any more" : ""}`);
    made(machine);
    this.#boot(machine);
    this.#maybeDie(machine);
    return machine;
  }

  destroy(name: string): "gone" | "ending" {
    const { clock, faults, tell, ending } = this.#parts;
    const machine = this.find(name);
    if (machine === undefined) return "gone";
    if (machine.endingAt !== null) return "ending";
    ending(machine);
    machine.endingAt = clock.now();
    this.end(machine, null);
    if (faults.strikes("destroy-slow", name, 0.3)) {
      clock.after(60_000, () => this.#forget(machine));
      return "ending";
    }
    tell(`${this.name} ends ${name}`);
    this.#forget(machine);
    return "gone";
  }

  /** The list as it was at `at`. */
  listAt(at: number): Machine[] {
    return this.machines
      .filter(({ createdAt, goneAt }) => createdAt <= at && (goneAt === null || goneAt > at))
      .map(({ name, createdAt, endedAt, exitCode }) => {
        const isOver = endedAt !== null && endedAt <= at;
        const state = isOver ? ("ended" as const) : ("running" as const);
        return { name, state, handle: `id-${name}`, createdAt, exitCode: isOver ? exitCode : null };
      });
  }

  /** Whether a list leaves this machine out, which may happen to it once in its life. */
  forgets(name: string, where: string): boolean {
    if (this.#forgotten.has(name)) return false;
    const forgets = this.#parts.faults.strikes("list-forgets", `${where}/${name}`, 0.2);
    if (forgets) this.#forgotten.add(name);
    return forgets;
  }

  /** Its program is over; the machine stays until somebody ends it. */
  end(machine: CloudMachine, exitCode: number | null): void {
    if (machine.endedAt !== null) return;
    machine.endedAt = this.#parts.clock.now();
    machine.exitCode = exitCode;
    this.#parts.forge.disconnect(machine.name);
  }

  #forget(machine: CloudMachine): void {
    machine.goneAt ??= this.#parts.clock.now();
  }

  #boot(machine: CloudMachine): void {
    const { chance, clock, faults, plan } = this.#parts;
    const { name } = machine;
    if (faults.strikes("boot-never", name, 0.3)) return;
    let bootMs = chance.between(`boot/${name}`, ...plan.bootMs);
    if (faults.strikes("boot-slow", name, 0.5))
      bootMs = chance.between(`slow/${name}`, 50_000, 130_000);
    clock.after(bootMs, () => this.#run(machine));
  }

  /** The machine's guest: the forge's runner for one job. */
  #run(machine: CloudMachine): void {
    const { clock, chance, faults, forge } = this.#parts;
    const { name } = machine;
    if (machine.endedAt !== null) return;
    const isKnown = forge.connect(name, (news) => {
      if (machine.endedAt !== null) return;
      if (news === "removed") return void clock.after(500, () => this.end(machine, 0));
      if (faults.strikes("job-hangs", name, 0.1)) return;
      clock.after(news.plan.runMs, () => {
        if (machine.endedAt !== null) return;
        forge.finish(name);
        clock.after(chance.between(`exit/${name}`, 0, 2_000), () => this.end(machine, 0));
      });
    });
    if (!isKnown) this.end(machine, 1);
  }

  #maybeDie(machine: CloudMachine): void {
    const { chance, clock, faults, tell } = this.#parts;
    const { name } = machine;
    const inMs = chance.between(`death/${name}`, 1_000, 90_000);
    if (faults.strikes("machine-dies", name, 0.2)) {
      clock.after(inMs, () => {
        if (machine.endedAt !== null) return;
        tell(`${name} dies`);
        this.end(machine, 137);
      });
    }
    if (!faults.strikes("machine-vanishes", name, 0.2)) return;
    clock.after(inMs, () => {
      if (machine.goneAt !== null) return;
      tell(`${this.name} takes ${name} back`);
      this.end(machine, null);
      this.#forget(machine);
    });
  }
}
