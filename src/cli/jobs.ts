import type { JobView } from "../web/views.ts";
import { duration, outcomeWords, relative } from "../web/words.ts";
import { showList, type ListFlags } from "./list.ts";
import type { Column } from "./table.ts";
import type { Tint } from "./terminal.ts";

export interface JobsFlags extends ListFlags {
  readonly waiting?: true;
  readonly started?: true;
  readonly ended?: true;
}

/** `mayfly jobs`: the newest jobs, how they are, and where. */
export function run(flags: JobsFlags): Promise<number> {
  const states = (["waiting", "started", "ended"] as const).filter((state) => flags[state]);
  // The API filters by one state; with none or several of them, by none.
  const state = states.length === 1 ? states[0] : undefined;
  const none =
    state === undefined
      ? "No jobs yet. Submit one: mayfly submit --wait -- make test"
      : `No jobs ${{ waiting: "wait", started: "run", ended: "are over" }[state]} now.`;
  return showList<JobView>({ what: "jobs", columns, none }, flags, { state });
}

function columns(now: number): Column<JobView>[] {
  return [
    { title: "JOB", text: ({ id }) => id },
    { title: "STATE", text: stateWords, tint },
    { title: "NAME", text: ({ name }) => name, flexible: true },
    {
      title: "REPOSITORY",
      text: ({ repository }) => repository || "-",
      flexible: true,
      optional: true,
    },
    { title: "POOL", text: ({ pool }) => pool ?? "-", optional: true },
    { title: "MACHINE", text: ({ machine }) => machine ?? "-", optional: true },
    { title: "TOOK", text: (job) => took(job, now), align: "right" },
    { title: "QUEUED", text: ({ queuedAt }) => relative(queuedAt, now), align: "right" },
  ];
}

function stateWords({ state, outcome, exitCode }: JobView): string {
  if (state !== "ended") return state === "started" ? "running" : "waiting";
  if (outcome === "failure" && exitCode !== null) return `failed (${exitCode})`;
  return outcome === null ? "ended" : outcomeWords[outcome];
}

function tint({ state, outcome }: JobView): Tint | null {
  if (state === "waiting") return "yellow";
  if (state === "started") return "cyan";
  if (outcome === "success") return "green";
  return outcome === "cancelled" || outcome === "skipped" ? "dim" : "red";
}

function took({ startedAt, endedAt }: JobView, now: number): string {
  return startedAt === null ? "-" : duration((endedAt ?? now) - startedAt);
}
