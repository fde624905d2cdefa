import type { z } from "zod";
import type { RunnerSchema } from "../web/schemas.ts";
import { relative } from "../web/words.ts";
import { showList, type ListFlags } from "./list.ts";
import { runnerTint } from "./machines.ts";
import type { Column } from "./table.ts";

type RunnerView = z.infer<typeof RunnerSchema>;

/** `mayfly runners`: what forges see of our machines. */
export function run(flags: ListFlags & { readonly all?: true }): Promise<number> {
  const state = flags.all ? undefined : "alive";
  const none = flags.all
    ? "No runners yet."
    : "No runners now; with --all also those that are gone.";
  return showList<RunnerView>({ what: "runners", columns, none }, flags, { state });
}

function columns(now: number): Column<RunnerView>[] {
  return [
    { title: "RUNNER", text: ({ name }) => name },
    { title: "STATE", text: ({ state }) => state, tint: ({ state }) => runnerTint(state) },
    { title: "FORGE", text: ({ forge }) => forge, optional: true },
    { title: "POOL", text: ({ pool }) => pool, optional: true },
    { title: "JOB", text: ({ job }) => job ?? "-" },
    {
      title: "LABELS",
      text: ({ labels }) => labels.join(", ") || "-",
      flexible: true,
      optional: true,
    },
    { title: "CLAIMED", text: ({ claimedAt }) => relative(claimedAt, now), align: "right" },
  ];
}
