import { formatUsd } from "../domain/money.ts";
import type { RunnerState } from "../domain/runner.ts";
import type { MachineView } from "../web/views.ts";
import { duration, sizeText } from "../web/words.ts";
import { showList, type ListFlags } from "./list.ts";
import type { Column } from "./table.ts";
import type { Tint } from "./terminal.ts";

/** `mayfly machines`: what providers made for us, and what it costs. */
export function run(flags: ListFlags & { readonly all?: true }): Promise<number> {
  const state = flags.all ? undefined : "alive";
  const none = flags.all
    ? "No machines yet."
    : "No machines now; with --all also those that are gone.";
  return showList<MachineView>({ what: "machines", columns, none }, flags, { state });
}

function columns(now: number): Column<MachineView>[] {
  return [
    { title: "MACHINE", text: ({ name }) => name },
    { title: "STATE", text: ({ state }) => state, tint: ({ state }) => runnerTint(state) },
    { title: "PROVIDER", text: ({ provider }) => provider, optional: true },
    { title: "POOL", text: ({ pool }) => pool, optional: true },
    { title: "SIZE", text: ({ size }) => sizeText(size), optional: true },
    { title: "JOB", text: ({ job }) => job ?? "-" },
    { title: "AGE", text: (machine) => age(machine, now), align: "right" },
    { title: "COST", text: ({ costMicroUsd }) => formatUsd(costMicroUsd), align: "right" },
    { title: "WHY", text: ({ reason }) => reason, flexible: true, optional: true },
  ];
}

const tints: Readonly<Record<RunnerState, Tint>> = {
  claimed: "yellow",
  asked: "yellow",
  up: "green",
  started: "cyan",
  ended: "dim",
  gone: "dim",
};

export function runnerTint(state: RunnerState): Tint {
  return tints[state];
}

function age({ claimedAt, goneAt }: MachineView, now: number): string {
  return duration((goneAt ?? now) - claimedAt);
}
