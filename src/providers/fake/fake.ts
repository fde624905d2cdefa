import { ProviderError } from "../../domain/errors.ts";
import { free, type Price } from "../../domain/money.ts";
import type { Program } from "../../domain/program.ts";
import type { Size } from "../../domain/size.ts";
import { isOurs, refuseName, refuseUnfit } from "../names.ts";
import { refuseProgram } from "../program.ts";
import type { Capabilities, Check, Machine, MachineSpec, Provider } from "../provider.ts";

export type Call = "create" | "list" | "destroy";

/** What one call does instead of simply succeeding. */
export interface Step {
  /** Waits this long before it does anything. */
  readonly delayMs?: number;
  /** Fails with this; before it has any effect unless `effect` says otherwise. */
  readonly fail?: ProviderError;
  /** `true`: a call that fails or hangs has done its work all the same, as after a lost answer. */
  readonly effect?: boolean;
  /** Never answers; only the signal ends it. */
  readonly hang?: boolean;
  /** The machine made shows only in the listings after this many. */
  readonly hiddenLists?: number;
  /** This `destroy`, and so many after it, say `ending` first. */
  readonly endings?: number;
}

/** The part of a clock that the fake waits by; the fleet's clock is one. */
export interface FakeClock {
  now(): number;
  after(ms: number, fn: () => void): () => void;
}

export interface FakeOptions {
  readonly name: string;
  readonly installation: string;
  readonly clock: FakeClock;
  /** What each call does when nothing else was scripted for it. */
  readonly always?: Partial<Record<Call, Step>>;
  /** From `create` until a machine is `running`, ms; 0 unless told. */
  readonly bootMs?: number;
  readonly price?: Price;
  readonly lends?: Partial<Capabilities>;
  /** Called once a machine is made, as its guest would start: asynchronously, after `bootMs`. */
  readonly guest?: (machine: FakeGuest) => void;
}

/** A machine as seen from inside, for the callback that plays its guest. */
export interface FakeGuest {
  readonly spec: MachineSpec;
  readonly program: Program;
  /** Aborts when the machine ends, for whatever reason. */
  readonly ended: AbortSignal;
  /** The program is over. */
  exit(code: number): void;
}

interface FakeMachine {
  readonly spec: MachineSpec;
  readonly program: Program;
  readonly handle: string;
  readonly createdAt: number;
  readonly end: AbortController;
  hiddenLists: number;
  endings: number;
  exitCode: number | null;
  isInterrupted: boolean;
}

const defaults: Capabilities = {
  architectures: ["x64", "arm64"],
  maximum: { cpu: 64, memoryMb: 262_144, diskGb: 1_000, gpu: 8, architecture: "x64" },
  channel: "socket",
  accepts: ["trusted", "fork"],
  labels: ["fake"],
};

/**
 * Machines that are only kept in mind, for tests, the simulator and the benches. Deterministic: all
 * that happens follows from the calls, the script and the clock handed in.
 */
export class FakeProvider implements Provider {
  readonly name: string;
  /** How often each call was made, whatever came of it. */
  readonly calls: Record<Call, number> = { create: 0, list: 0, destroy: 0 };
  readonly #options: FakeOptions;
  readonly #machines = new Map<string, FakeMachine>();
  readonly #scripted: Record<Call, Step[]> = { create: [], list: [], destroy: [] };
  readonly #lends: Capabilities;
  #made = 0;

  constructor(options: FakeOptions) {
    this.name = options.name;
    this.#options = options;
    this.#lends = { ...defaults, ...options.lends };
  }

  /** The next calls of this kind do these steps, one each; then it is `always` again. */
  script(call: Call, ...steps: Step[]): void {
    this.#scripted[call].push(...steps);
  }

  /** Ends a machine as a crash would: it is still listed, and its program is over. */
  die(name: string, exitCode: number | null = null): void {
    const machine = this.#machines.get(name);
    if (machine !== undefined) this.#end(machine, exitCode);
  }

  /** Takes a machine back, as a cloud does with what it sold cheaply. */
  takeBack(name: string): void {
    const machine = this.#machines.get(name);
    if (machine === undefined) return;
    machine.isInterrupted = true;
    this.#end(machine, null);
  }

  /** What a machine was asked for as. */
  specOf(name: string): MachineSpec | undefined {
    return this.#machines.get(name)?.spec;
  }

  /** Removes a machine behind the fleet's back, as when somebody deletes it by hand. */
  vanish(name: string): void {
    this.die(name);
    this.#machines.delete(name);
  }

  /** Every machine there is, hidden ones too. */
  alive(): readonly string[] {
    return [...this.#machines.keys()];
  }

  async create(spec: MachineSpec, program: Program, signal: AbortSignal): Promise<Machine> {
    refuseName(this.#options.installation, spec.name);
    refuseUnfit(spec, this.#lends);
    refuseProgram(program);
    return this.#act("create", signal, (step) => {
      const present = this.#machines.get(spec.name) ?? this.#make(spec, program, step);
      return this.#show(present);
    });
  }

  async list(signal: AbortSignal): Promise<readonly Machine[]> {
    return this.#act("list", signal, () => {
      const shown: Machine[] = [];
      for (const [name, machine] of this.#machines) {
        if (machine.hiddenLists-- > 0) continue;
        if (isOurs(this.#options.installation, name)) shown.push(this.#show(machine));
      }
      return shown;
    });
  }

  async destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending"> {
    refuseName(this.#options.installation, name);
    return this.#act("destroy", signal, (step) => {
      const machine = this.#machines.get(name);
      if (machine === undefined) return "gone";
      this.#end(machine, machine.exitCode);
      machine.endings = Math.max(machine.endings, step.endings ?? 0);
      if (machine.endings-- > 0) return "ending";
      this.#machines.delete(name);
      return "gone";
    });
  }

  price(_size: Size): Price {
    return this.#options.price ?? free;
  }

  lends(): Capabilities {
    return this.#lends;
  }

  async check(): Promise<readonly Check[]> {
    return [{ name: "fake", ok: true, detail: "nothing is needed", mend: null }];
  }

  async prepare(): Promise<void> {}

  async close(): Promise<void> {}

  async #act<T>(call: Call, signal: AbortSignal, effect: (step: Step) => T): Promise<T> {
    this.calls[call] += 1;
    const step = this.#scripted[call].shift() ?? this.#options.always?.[call] ?? {};
    refuseAborted(call, signal);
    if (step.delayMs !== undefined) await this.#sleep(call, step.delayMs, signal);
    const fails = step.fail !== undefined || step.hang === true;
    const result = fails && step.effect !== true ? null : effect(step);
    if (step.hang === true) await this.#sleep(call, Infinity, signal);
    if (step.fail !== undefined) throw step.fail;
    return result as T;
  }

  #make(spec: MachineSpec, program: Program, step: Step): FakeMachine {
    const { clock, guest, bootMs = 0 } = this.#options;
    const machine: FakeMachine = {
      spec,
      program,
      handle: `fake-${++this.#made}`,
      createdAt: clock.now(),
      end: new AbortController(),
      hiddenLists: step.hiddenLists ?? 0,
      endings: 0,
      exitCode: null,
      isInterrupted: false,
    };
    this.#machines.set(spec.name, machine);
    const ended = machine.end.signal;
    if (guest === undefined) return machine;
    // Deadlines cost a timer each, so only a machine with a guest to tell has one.
    const lapse = clock.after(program.deadlineSeconds * 1000, () => this.#end(machine, null));
    const start = clock.after(bootMs, () => {
      guest({ spec, program, ended, exit: (code) => this.#end(machine, code) });
    });
    ended.addEventListener("abort", () => (lapse(), start()), { once: true });
    return machine;
  }

  #end(machine: FakeMachine, exitCode: number | null): void {
    if (machine.end.signal.aborted) return;
    machine.exitCode = exitCode;
    machine.end.abort();
  }

  #show(machine: FakeMachine): Machine {
    const { createdAt, program, handle, spec } = machine;
    const livedMs = this.#options.clock.now() - createdAt;
    if (livedMs >= program.deadlineSeconds * 1000) this.#end(machine, null);
    const over = machine.end.signal.aborted;
    const running = livedMs >= (this.#options.bootMs ?? 0) ? "running" : "booting";
    const exitCode = over ? machine.exitCode : null;
    const state = over ? "ended" : running;
    const mark = machine.isInterrupted ? { isInterrupted: true as const } : {};
    return { name: spec.name, state, handle, createdAt, exitCode, ...mark };
  }

  #sleep(call: Call, ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancel = Number.isFinite(ms) ? this.#options.clock.after(ms, woken) : () => {};
      function woken(): void {
        signal.removeEventListener("abort", aborted);
        resolve();
      }
      function aborted(): void {
        cancel();
        reject(given(call));
      }
      signal.addEventListener("abort", aborted, { once: true });
    });
  }
}

function refuseAborted(call: Call, signal: AbortSignal): void {
  if (signal.aborted) throw given(call);
}

function given(call: Call): ProviderError {
  return new ProviderError("unreachable", `${call} was given up; it may have taken effect`);
}
