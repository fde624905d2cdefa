/*
 * A manager for the conformance suite to kill: it opens the provider, makes one machine, says
 * `made`, and stays. Its one argument is a `ManagerOrder` as JSON.
 */
import type { Program } from "../domain/program.ts";
import type { MachineSpec, Provider, ProviderContext } from "./provider.ts";

export interface ManagerOrder {
  /** The URL of a module that exports `open(options, context)`. */
  readonly module: string;
  readonly options: unknown;
  readonly context: Omit<ProviderContext, "now" | "log">;
  readonly spec: MachineSpec;
  readonly program: Program;
}

const order = JSON.parse(process.argv[2] ?? "{}") as ManagerOrder;
const { open } = (await import(order.module)) as {
  open(options: unknown, context: ProviderContext): Promise<Provider>;
};
const log = { info: () => {}, warn: () => {} };
const provider = await open(order.options, { ...order.context, now: () => Date.now(), log });
await provider.create(order.spec, order.program, new AbortController().signal);
process.stdout.write("made\n");
setInterval(() => {}, 1_000);
