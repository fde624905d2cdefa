import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../domain/errors.ts";
import type { Program } from "../domain/program.ts";
import type { Machine, MachineSpec, Provider } from "../providers/provider.ts";
import type { RunDesk } from "./desk.ts";

const destroyMs = 60_000;
/** A guest that is told to end does so at once; podman may take a second on a busy host. */
const leavingMs = 10_000;

/** One run's machine, from the wish for it to its end. */
export class RunMachine {
  readonly provider: Provider;
  readonly name: string;
  readonly #spec: MachineSpec;
  readonly #program: Program;
  /** The call that makes it, while it is under way: where the provider stays, all of its life. */
  #making: Promise<unknown> | null = null;

  constructor(provider: Provider, spec: MachineSpec, program: Program) {
    this.provider = provider;
    this.name = spec.name;
    this.#spec = spec;
    this.#program = program;
  }

  /** As the provider's `create`. */
  async make(signal: AbortSignal): Promise<Machine> {
    const making = this.provider.create(this.#spec, this.#program, signal);
    this.#making = making;
    try {
      return await making;
    } finally {
      this.#making = null;
    }
  }

  /**
   * Ends it for good: lets it go by itself where somebody stays to see it go, since being removed
   * while it runs takes longer. `leave` aborted: nothing is waited for. Throws as `endMachine`.
   */
  async end(desk: RunDesk, leave: AbortSignal): Promise<void> {
    if (this.#making !== null && desk.end()) await settled(this.#making, leave);
    await endMachine(this.provider, this.name);
  }
}

/** Ends a machine for good. Throws `unavailable` when it will not go. */
export async function endMachine(provider: Provider, name: string): Promise<void> {
  const signal = AbortSignal.timeout(destroyMs);
  try {
    while ((await provider.destroy(name, signal)) !== "gone");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new MayflyError("unavailable", `${name} could not be removed: ${why}`, {
      hint: "It ends by itself at its deadline, and the next run removes what is left.",
    });
  }
}

/** Until the promise is settled, but not for ever. */
async function settled(promise: Promise<unknown>, leave: AbortSignal): Promise<void> {
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, leave]);
  await Promise.race([promise, sleep(leavingMs, undefined, { signal })]).catch(() => {});
  over.abort();
}
