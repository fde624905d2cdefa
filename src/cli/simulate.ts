import { writeFileSync } from "node:fs";
import { MayflyError } from "../domain/errors.ts";
import { formatUsd } from "../domain/money.ts";
import { counted, listed, nearest, quote } from "../domain/words.ts";
import { Chance } from "../sim/chance.ts";
import { runTrace } from "../sim/trace/engine.ts";
import { arrivalsOf } from "../sim/trace/learning.ts";
import { mayfly, mayflyTaught } from "../sim/trace/mayfly.ts";
import { outcomeOf, stepFor, type Outcome } from "../sim/trace/outcome.ts";
import { others } from "../sim/trace/policies/index.ts";
import type { Policy } from "../sim/trace/policy.ts";
import type { Setting } from "../sim/trace/setting.ts";
import { splitTrace } from "../sim/trace/split.ts";
import type { Trace } from "../sim/trace/trace.ts";
import { pastJobsOf } from "./forge-history.ts";
import { exit } from "./exit.ts";
import { version } from "./places.ts";
import { readSettings, type Measured, type SettingFlags } from "./simulate-settings.ts";
import {
  localHistory,
  saved,
  servedHistory,
  traceOfFile,
  traceOfJobs,
  type OwnHistory,
  type Source,
  type SourceFlags,
} from "./simulate-sources.ts";
import { table, type Column } from "./table.ts";
import { columnsOf, note, painter, print, StatusLine } from "./terminal.ts";

export interface SimulateFlags extends SourceFlags, SettingFlags {
  readonly from?: string;
  readonly token?: string;
  readonly since?: string;
  readonly save?: string;
  readonly policies?: string;
  readonly train?: string;
  readonly seed?: string;
  readonly report?: string;
}

/** One setting under one policy, and what came of it. */
export interface Result {
  readonly setting: Setting;
  readonly policy: Policy;
  readonly outcome: Outcome;
}

/**
 * `mayfly simulate`: what a history of jobs would have waited and cost under settings of one's own,
 * by the planner that a server runs, and by models of others.
 */
export async function run(flags: SimulateFlags): Promise<number> {
  const chosen = choosePolicies(flags.policies);
  const seed = readSeed(flags.seed);
  const part = readTrain(flags.train);
  const { source: whole, measured } = await readSource(flags);
  const { settings, notes: settingNotes } = await readSettings(flags, measured);
  const { before, after } = splitTrace(whole.trace, part);
  const source = { ...whole, trace: after };
  const notes = part === 0 ? settingNotes : [...settingNotes, trainNote(before)];
  const results = simulate(after, before, settings, chosen, seed);
  if (flags.report !== undefined) await writeReport(flags.report, source, results, notes);
  if (flags.json) await print(JSON.stringify(asJson(source, results, notes)));
  else await show(source, results, notes);
  if (flags.report !== undefined) note(`The report is in ${flags.report}.`);
  return exit.ok;
}

/** `before` is what pools that learn have seen already. */
function simulate(
  trace: Trace,
  before: Trace,
  settings: readonly Setting[],
  chosen: readonly Policy[],
  seed: number,
): Result[] {
  const stepMs = stepFor(trace);
  const status = new StatusLine(process.stderr);
  const results: Result[] = [];
  for (const setting of settings) {
    const taught = mayflyTaught(arrivalsOf(before, setting));
    for (const one of chosen) {
      const policy = one === mayfly ? taught : one;
      status.show(`${counted(trace.count, "job")}: ${setting.name}, ${policy.name}…`);
      // The same boots for all, as far as they ask for machines in the same order.
      const chance = new Chance(seed).stream("boots");
      const run = runTrace(trace, setting, policy, { chance, stepMs });
      results.push({ setting, policy, outcome: outcomeOf(trace, run) });
    }
  }
  status.clear();
  return results;
}

function choosePolicies(text: string | undefined): readonly Policy[] {
  const all = [mayfly, ...others];
  if (text === undefined || text === "all") return all;
  return text.split(",").map((word) => {
    const policy = all.find(({ name }) => name === word.trim());
    if (policy !== undefined) return policy;
    const names = all.map(({ name }) => name);
    const meant = nearest(word, names);
    throw new MayflyError("invalid", `there is no policy ${quote(word)}`, {
      where: "--policies",
      hint: meant === null ? `There are ${listed(names, 20)}.` : `Did you mean ${quote(meant)}?`,
    });
  });
}

function readTrain(text = "0"): number {
  const part = /^(0|0?\.\d{1,4})$/.test(text) ? Number(text) : NaN;
  if (part >= 0 && part < 1) return part;
  throw new MayflyError("invalid", `${quote(text)} is no part of a trace`, {
    where: "--train",
    hint: "Write how much of its time only teaches, from 0 up to below 1, such as 0.6.",
  });
}

function trainNote({ count, queuedAt }: Trace): string {
  const days = count === 0 ? 0 : (queuedAt[count - 1]! - queuedAt[0]!) / (24 * 3600 * 1000);
  const taught = `${counted(count, "job")} of the ${days.toFixed(1)} days before`;
  return `${taught} were only learned from; they are in no figure.`;
}

function readSeed(text = "1"): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new MayflyError("invalid", `${quote(text)} is no seed`, {
    where: "--seed",
    hint: "Write a whole number.",
  });
}

/** The history to run, and how long our own machines took to boot. */
async function readSource(flags: SimulateFlags): Promise<{ source: Source; measured: Measured }> {
  if (flags.trace !== undefined) {
    const own = flags.server === undefined ? localHistory(flags) : await servedHistory(flags);
    return { source: await traceOfFile(flags.trace, flags), measured: own?.measured ?? new Map() };
  }
  if (flags.from !== undefined) {
    const jobs = pastJobsOf(flags.from, flags, (line) => note(line));
    const source = await traceOfJobs(flags.from, jobs, flags);
    return { source, measured: localHistory(flags)?.measured ?? new Map() };
  }
  const asksServer = flags.server !== undefined || (process.env["MAYFLY_SERVER"] ?? "") !== "";
  const own: OwnHistory | null = asksServer ? await servedHistory(flags) : localHistory(flags);
  if (own === null) {
    throw new MayflyError("not_found", "there is no history here yet", {
      hint: "Give a trace with --trace jobs.csv, or fetch one: --from github:OWNER/REPO.",
    });
  }
  const jobs = flags.save === undefined ? own.jobs : saved(own.jobs, flags.save);
  return { source: await traceOfJobs(own.name, jobs, flags), measured: own.measured };
}

async function writeReport(
  file: string,
  source: Source,
  results: readonly Result[],
  notes: readonly string[],
): Promise<void> {
  const { simulationReport } = await import("../web/pages/simulation.ts");
  const text = await simulationReport({
    ...source,
    results,
    notes,
    warningsOf,
    version: version(),
    now: Date.now(),
  });
  try {
    writeFileSync(file, text);
  } catch (error) {
    throw new MayflyError("invalid", `${file} cannot be written: ${(error as Error).message}`, {
      where: "--report",
    });
  }
}

async function show(
  { name, trace }: Source,
  results: readonly Result[],
  notes: readonly string[],
): Promise<void> {
  const [width, paint] = [columnsOf(process.stdout), painter(process.stdout)];
  await print(`${counted(trace.count, "job")} of ${name}, as a model would have it:`);
  for (const setting of new Set(results.map((result) => result.setting))) {
    const own = results.filter((result) => result.setting === setting);
    await print("");
    await print(paint("bold", setting.name));
    for (const line of table(own, columns, width ?? 80, paint)) await print(line);
    for (const line of billsOf(own)) await print(line);
    for (const line of warningsOf(own[0]!.outcome)) await print(`${paint("yellow", "!")} ${line}`);
  }
  await print("");
  for (const line of [...leftOutOf(trace), ...notes, modelNote]) await print(paint("dim", line));
}

/** What each provider's part is, where there are several. */
function billsOf(results: readonly Result[]): string[] {
  return results.flatMap(({ policy, outcome: { providers } }) => {
    if (providers.length < 2) return [];
    const parts = providers.map(({ provider, machineSeconds, microUsd }) => {
      const price = microUsd === 0 ? "" : ` for ${formatUsd(microUsd)}`;
      return `${provider} ${hoursText(machineSeconds)} h${price}`;
    });
    return [`  ${policy.name}: ${listed(parts, 20)}`];
  });
}

const modelNote =
  "A model: jobs queue when they did, machines never fail, and no provider ever refuses.";

/** `policy`, what its jobs waited, and what it took. Within 80 columns. */
const columns: readonly Column<Result>[] = [
  { title: "POLICY", text: ({ policy }) => policy.name, flexible: true },
  waitColumn("WAIT p50", "p50Seconds"),
  waitColumn("p95", "p95Seconds"),
  waitColumn("p99", "p99Seconds"),
  amount("HOURS", ({ machineSeconds }) => hoursText(machineSeconds.all)),
  amount("IDLE", ({ idleShare }) => `${Math.round(idleShare * 100)}%`),
  amount("PEAK", ({ peakMachines }) => String(peakMachines)),
  amount("COST", ({ microUsd }) => (microUsd === 0 ? "-" : formatUsd(microUsd))),
];

function waitColumn(title: string, figure: keyof Outcome["wait"]): Column<Result> {
  return amount(title, ({ wait }) => shortDuration(wait[figure]));
}

function amount(title: string, text: (outcome: Outcome) => string): Column<Result> {
  return { title, text: ({ outcome }) => text(outcome), align: "right" };
}

/** In few signs, for a table: `0s`, `45s`, `3m20s`, `2h14m`, `3d4h`. */
export function shortDuration(seconds: number): string {
  const units = [
    [86_400, "d"],
    [3600, "h"],
    [60, "m"],
    [1, "s"],
  ] as const;
  const whole = Math.round(seconds);
  const index = units.findIndex(([each]) => whole >= each);
  if (index === -1) return "0s";
  const [each, name] = units[index]!;
  const [smaller, smallName] = units[index + 1] ?? [1, ""];
  const rest = Math.floor((whole % each) / smaller);
  return `${Math.floor(whole / each)}${name}${rest > 0 && smallName !== "" ? `${rest}${smallName}` : ""}`;
}

function hoursText(seconds: number): string {
  const hours = seconds / 3600;
  return hours >= 100 ? Math.round(hours).toLocaleString("en") : hours.toFixed(1);
}

/** What of a setting a person should mend or know before believing its figures. */
export function warningsOf({ unplaced, unplacedBecause, unserved, overlong }: Outcome): string[] {
  const warnings: string[] = [];
  const [first] = unplacedBecause;
  if (first !== undefined) {
    const most = unplacedBecause.length === 1 ? "" : `, ${first.jobs} of them because`;
    const hint = "Such jobs are left out; --labels gives all jobs labels that a pool offers.";
    warnings.push(`${counted(unplaced, "job")} no pool takes${most}: ${first.reason}. ${hint}`);
  }
  if (unserved > 0) warnings.push(`${counted(unserved, "job")} never got a machine.`);
  if (overlong > 0) {
    warnings.push(
      `${counted(overlong, "job")} ran longer than the pool's timeout: Mayfly would end them there.`,
    );
  }
  return warnings;
}

export function leftOutOf({ leftOut }: Trace): string[] {
  return [...leftOut].map(([why, rows]) => `Left out: ${counted(rows, "row")} that ${why}.`);
}

function asJson({ name, trace }: Source, results: readonly Result[], notes: readonly string[]) {
  return {
    trace: {
      name,
      jobs: trace.count,
      fromAt: trace.queuedAt[0],
      toAt: trace.queuedAt[trace.count - 1],
      leftOut: Object.fromEntries(trace.leftOut),
    },
    notes: [...notes, modelNote],
    results: results.map(({ setting, policy, outcome }) => ({
      setting: setting.name,
      policy: policy.name,
      ...outcome,
    })),
  };
}
