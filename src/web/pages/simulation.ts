import { html, raw } from "hono/html";
import { formatUsd } from "../../domain/money.ts";
import { counted, listed } from "../../domain/words.ts";
import type { Outcome } from "../../sim/trace/outcome.ts";
import type { Policy } from "../../sim/trace/policy.ts";
import type { Setting } from "../../sim/trace/setting.ts";
import type { Trace } from "../../sim/trace/trace.ts";
import { style } from "../assets.ts";
import { duration, exactTime, sizeText } from "../words.ts";
import { mark } from "./layout.ts";
import { labelList, money, prose, table, type Column, type Html } from "./parts.ts";
import { drawComparison } from "./simulation-bars.ts";
import { simulationPlots } from "./simulation-plots.ts";

export interface SimulatedRun {
  readonly setting: Setting;
  readonly policy: Policy;
  readonly outcome: Outcome;
}

export interface Simulation {
  /** Where the jobs are from. */
  readonly name: string;
  readonly trace: Trace;
  readonly results: readonly SimulatedRun[];
  /** Sentences on how the settings came about. */
  readonly notes: readonly string[];
  /** What of a run should be mended or known before its figures are believed, a sentence each. */
  readonly warningsOf: (outcome: Outcome) => readonly string[];
  readonly version: string;
  readonly now: number;
}

/** A whole page that needs nothing besides itself: no script, no other file. */
export async function simulationReport(simulation: Simulation): Promise<string> {
  const { name, trace, results, version, now } = simulation;
  const settings = [...new Set(results.map(({ setting }) => setting))];
  const title = `${trace.count.toLocaleString("en")} ${trace.count === 1 ? "job" : "jobs"}`;
  const page = await html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta
          http-equiv="content-security-policy"
          content="default-src 'none'; style-src 'unsafe-inline'"
        />
        <title>${title}, simulated · Mayfly</title>
        <style>
          ${raw(new TextDecoder().decode(style.bytes))}
          ${raw(ownStyle)}
        </style>
      </head>
      <body>
        <a class="skip" href="#main">Skip to the content</a>
        <header class="top">
          <span class="brand">${mark()}<span>mayfly</span></span>
        </header>
        <main id="main" tabindex="-1">
          <div class="lead">
            <h1>${title} over ${spanText(trace)}, simulated.</h1>
            <p>${periodText(trace)} From <bdi>${name}</bdi>. ${leftOutText(trace)}</p>
          </div>
          <section aria-labelledby="glance">
            <h2 id="glance">At a glance</h2>
            ${table("What each setting came to", columnsFor(settings.length), results)}
          </section>
          <section aria-labelledby="compared">
            <h2 id="compared">Compared</h2>
            ${drawComparison(
              results.map((result) => ({
                name:
                  settings.length === 1
                    ? result.policy.name
                    : `${result.policy.name}, ${result.setting.name}`,
                outcome: result.outcome,
              })),
            )}
          </section>
          ${settings.map((setting, index) => settingSection(simulation, setting, index))}
          ${restsOn(simulation)}
        </main>
        <footer class="bottom">
          <span>Mayfly ${version}</span>
          <span>made <time datetime="${new Date(now).toISOString()}">${exactTime(now)}</time></span>
          <span>a model, not a promise</span>
        </footer>
      </body>
    </html>`;
  return page.toString();
}

/** A trace whose times begin at 0 has no calendar. */
function isDated({ queuedAt }: Trace): boolean {
  return (queuedAt[0] ?? 0) > 365 * 86_400_000;
}

function spanText({ queuedAt, count }: Trace): string {
  return duration((queuedAt[count - 1] ?? 0) - (queuedAt[0] ?? 0));
}

function periodText(trace: Trace): string {
  if (!isDated(trace)) return "Its times are its own: they count from its beginning.";
  const day = (at: number | undefined): string => exactTime(at ?? 0).slice(0, 16);
  return `Queued from ${day(trace.queuedAt[0])} to ${day(trace.queuedAt[trace.count - 1])} UTC.`;
}

function leftOutText({ leftOut }: Trace): string {
  return [...leftOut]
    .map(([why, rows]) => `Left out: ${counted(rows, "row")} that ${why}.`)
    .join(" ");
}

function columnsFor(settings: number): Column<SimulatedRun>[] {
  const number = (name: string, text: (outcome: Outcome) => string): Column<SimulatedRun> => ({
    name,
    kind: "number",
    cell: ({ outcome }) => html`<span class="number">${text(outcome)}</span>`,
  });
  const policy: Column<SimulatedRun> = {
    name: "Policy",
    kind: "title",
    cell: (run) => html`<a href="#policy-${run.policy.name}">${run.policy.name}</a>`,
  };
  const setting: Column<SimulatedRun> = {
    name: "Setting",
    kind: "wide",
    cell: (run) => html`<span class="name">${run.setting.name}</span>`,
  };
  return [
    policy,
    ...(settings > 1 ? [setting] : []),
    number("Half start within", ({ wait }) => waitText(wait.p50Seconds)),
    number("95 of 100", ({ wait }) => waitText(wait.p95Seconds)),
    number("99 of 100", ({ wait }) => waitText(wait.p99Seconds)),
    number("Machine-hours", ({ machineSeconds }) => hoursText(machineSeconds.all)),
    number("Idle", ({ idleShare }) => `${Math.round(idleShare * 100)} %`),
    number("Peak", ({ peakMachines }) => String(peakMachines)),
    number("Cost", ({ microUsd }) => (microUsd === 0 ? "—" : formatUsd(microUsd))),
  ];
}

function waitText(seconds: number): string {
  return seconds === 0 ? "0 s" : duration(seconds * 1000);
}

function hoursText(seconds: number): string {
  const hours = seconds / 3600;
  return hours >= 100 ? Math.round(hours).toLocaleString("en") : hours.toFixed(1);
}

/** The pools of a setting, what should be known of it, and how it went over time. */
function settingSection(simulation: Simulation, setting: Setting, index: number): Html {
  const own = simulation.results.filter((result) => result.setting === setting);
  const [first] = own;
  if (first === undefined) return html``;
  const { outcome, policy } = first;
  return html`<section aria-labelledby="setting-${index}">
    <h2 id="setting-${index}">${setting.name}, under ${policy.name}</h2>
    ${simulation.warningsOf(outcome).map((warning) => html`<p class="warned">${warning}</p>`)}
    ${table("Pools", poolColumns(outcome), setting.pools)}
    ${simulationPlots(simulation.trace, outcome, isDated(simulation.trace), `${index}`)}
  </section>`;
}

function poolColumns({ pools }: Outcome): Column<Setting["pools"][number]>[] {
  const runOf = new Map(pools.map((run) => [run.pool, run]));
  type Row = Setting["pools"][number];
  const count = (name: string, read: (row: Row) => number | string): Column<Row> => ({
    name,
    kind: "number",
    cell: (row) => html`<span class="number">${read(row)}</span>`,
  });
  return [
    { name: "Pool", kind: "title", cell: ({ name }) => html`<span class="name">${name}</span>` },
    { name: "Labels", kind: "wide", cell: ({ labels }) => labelList(labels) },
    { name: "Machines", cell: ({ provider, size }) => html`${provider}, ${sizeText(size)}` },
    count("Min", ({ min }) => min),
    count("Warm", ({ warm, schedule }) => (schedule.length > 0 ? `${warm}, by hours` : warm)),
    count("Max", ({ max }) => max),
    count("Jobs", ({ name }) => (runOf.get(name)?.jobs ?? 0).toLocaleString("en")),
    count("Peak", ({ name }) => runOf.get(name)?.peakMachines ?? 0),
    {
      name: "Cost",
      kind: "number",
      cell: ({ name }) => money(runOf.get(name)?.microUsd || null),
    },
  ];
}

const rules = [
  "Jobs queue when they did in the history, also where an earlier job of their run would now have ended sooner or later.",
  "A job takes as long as it did, whatever machine it gets.",
  "A free machine takes the job that has waited longest of those that its labels let it take; a job goes to the machine that has been free longest.",
  "Machines never fail or vanish, and no provider refuses or slows down.",
  "Boot times are drawn at random from what is said above, machine by machine.",
  "Machines are paid for from being asked for until they are gone. The bill ends with the last job.",
];

/** The model's assumptions, and where each policy is taken from. */
function restsOn({ results, notes }: Simulation): Html {
  const policies = [...new Set(results.map(({ policy }) => policy))];
  return html`<section aria-labelledby="rests">
    <h2 id="rests">What this rests on</h2>
    <ul class="assumptions">
      ${[...notes, ...rules].map((one) => html`<li>${one}</li>`)}
    </ul>
    ${policies.map(
      ({ name, about, source, assumptions }) =>
        html`<div class="policy" id="policy-${name}">
          <h3>${name}</h3>
          <p>${prose(about)}</p>
          <p class="soft">From ${source}.</p>
          <ul class="assumptions">
            ${assumptions.map((one) => html`<li>${prose(one)}</li>`)}
          </ul>
        </div>`,
    )}
    ${
      policies.length === 1
        ? ""
        : html`<p class="soft policy">
            Policies of others (${listed(policies.slice(1).map(({ name }) => name))}) are our models
            of what their sources do, under the same machines and prices: not measurements of them.
          </p>`
    }
  </section>`;
}

const ownStyle = `
section > table.cards { margin-top: 0.8rem; }
.plots { margin-top: 1rem; }
.warned { margin-top: 0.6rem; padding: 0.5rem 0.9rem; border-radius: 8px; color: var(--wait); background: var(--wait-bg); overflow-wrap: anywhere; }
.assumptions { padding-left: 1.2rem; margin-top: 0.6rem; max-width: 48rem; }
.assumptions li { margin-top: 0.25rem; }
.policy { margin-top: 1.3rem; max-width: 48rem; overflow-wrap: anywhere; }
.bars { display: grid; grid-template-columns: max-content minmax(4rem, 1fr) max-content; gap: 0.5rem 0.9rem; align-items: center; font-size: 0.87rem; }
.bars dt { max-width: 16rem; overflow-wrap: anywhere; }
.bars dd { display: contents; }
.bars svg { width: 100%; height: 0.9rem; display: block; }
.bars .track { fill: var(--sunk); }
.bars .busy, .bars .half { fill: var(--accent); }
.bars .most { fill: var(--accent); opacity: 0.5; }
.bars .nearly { fill: var(--accent); opacity: 0.22; }
.bars .booting { fill: var(--run); opacity: 0.75; }
.bars .idle { fill: var(--wait); opacity: 0.6; }
.bars .ending { fill: var(--calm); opacity: 0.6; }
.swatch { display: inline-block; width: 0.8rem; height: 0.7rem; margin-right: 0.35rem; border-radius: 2px; vertical-align: -0.05em; }
.swatch.busy, .swatch.half { background: var(--accent); }
.swatch.most { background: var(--accent); opacity: 0.5; }
.swatch.nearly { background: var(--accent); opacity: 0.22; }
.swatch.booting { background: var(--run); opacity: 0.75; }
.swatch.idle { background: var(--wait); opacity: 0.6; }
.swatch.ending { background: var(--calm); opacity: 0.6; }
.key.plain::before { content: none; }
.compared { grid-template-columns: minmax(0, 1fr); }
@media (max-width: 44rem) {
  .bars { display: block; }
  .bars dt { max-width: none; }
  .bars dd { display: block; margin: 0.15rem 0 0.8rem; color: var(--soft); }
}
`;
