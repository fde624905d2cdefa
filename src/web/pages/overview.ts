import { html } from "hono/html";
import { formatUsd } from "../../domain/money.ts";
import type { Runner } from "../../domain/runner.ts";
import { counted } from "../../domain/words.ts";
import {
  listJobs,
  listRunners,
  poolTotals,
  type Counts,
  type StoredJob,
} from "../../store/questions.ts";
import { latestEnded, oldestWaiting, runnersNamed, startedCount } from "../../store/statistics.ts";
import type { TrendWindow } from "../trends.ts";
import { costSoFar } from "../views.ts";
import type { Web } from "../web.ts";
import { whyJob } from "../why.ts";
import { sizeText, withoutPassword } from "../words.ts";
import type { Page } from "./layout.ts";
import {
  emptyState,
  isolated,
  jobBadge,
  jobLink,
  labelList,
  lasted,
  lasting,
  machineLink,
  money,
  perHour,
  poolLink,
  table,
  when,
  type Column,
  type Html,
} from "./parts.ts";
import { plots } from "./plots.ts";

const waitingShown = 10;
const runningShown = 15;
const endedShown = 10;
const dayMs = 24 * 3600_000;

/** What waits and why, what runs where and at what price, what ended, and how the day went. */
export async function overviewPage(web: Web, window: TrendWindow): Promise<Page> {
  const { fleet } = web;
  const { db } = fleet.store;
  const now = web.now();
  const [totals, waiting, running, runningCount, ended, alive, trend, today] = await Promise.all([
    poolTotals(db),
    oldestWaiting(db, waitingShown),
    listJobs(db, { state: "started", limit: runningShown }),
    startedCount(db),
    latestEnded(db, endedShown),
    listRunners(db, { states: ["asked", "up", "started", "ended"], limit: 1000 }),
    web.trends.over(window),
    web.trends.costSince(Math.floor(now / dayMs) * dayMs),
  ]);
  const counts = sumOf([...totals.values()]);
  const machines = await runnersNamed(
    db,
    [...running, ...ended].flatMap(({ runner }) => runner ?? []),
  );
  const perHourNow = alive.reduce((sum, { price }) => sum + price.microUsdPerHour, 0);
  const isNew = waiting.length + running.length + ended.length === 0;
  const content = html`<div class="lead" data-part="lead">
      <h1>${headline(counts.waiting, runningCount)}</h1>
      <p>${machinesSentence(counts)} ${moneySentence(perHourNow, today)}</p>
      ${troubles(web)}
    </div>
    <div data-part="first" ${isNew ? "" : html`hidden`}>${isNew ? firstSteps() : ""}</div>
    <section aria-labelledby="waiting" data-part="waiting">
      <h2 id="waiting">Waiting ${count(counts.waiting)}</h2>
      ${await waitingTable(web, waiting, now)}
      ${more(counts.waiting, waiting, "/jobs?state=waiting")}
    </section>
    <section aria-labelledby="running" data-part="running">
      <h2 id="running">Running ${count(runningCount)}</h2>
      ${runningTable(running, machines, now)} ${more(runningCount, running, "/jobs?state=started")}
    </section>
    <section aria-labelledby="ended" data-part="ended">
      <h2 id="ended">Ended</h2>
      ${endedTable(ended, machines, now)}
      ${ended.length < endedShown ? "" : html`<p class="more"><a href="/jobs?state=ended">All that ended</a></p>`}
    </section>
    <section aria-labelledby="trends" data-part="trends" ${isNew ? html`hidden` : ""}>
      <div class="heading">
        <h2 id="trends">How it went</h2>
        <p class="switch" role="group" aria-label="Time span">
          ${switchTo("24h", "24 hours", window)} ${switchTo("7d", "7 days", window)}
        </p>
      </div>
      ${plots(trend)}
    </section>`;
  return {
    title: headline(counts.waiting, runningCount).replace(/\.$/, ""),
    section: "/",
    live: "all",
    content,
  };
}

function headline(waiting: number, running: number): string {
  if (waiting === 0 && running === 0) return "All is quiet.";
  const runs = running === 0 ? "none runs" : `${running} ${running === 1 ? "runs" : "run"}`;
  if (waiting === 0)
    return `${counted(running, "job")} ${running === 1 ? "runs" : "run"}, none waits.`;
  return `${counted(waiting, "job")} ${waiting === 1 ? "waits" : "wait"}, ${runs}.`;
}

function machinesSentence({ booting, idle, busy, ending }: Counts): string {
  if (booting + idle + busy + ending === 0) return "No machine is alive.";
  const parts = [
    [booting, "starting"],
    [idle, "idle"],
    [busy, "busy"],
    [ending, "being removed"],
  ] as const;
  const said = parts.filter(([number]) => number > 0).map(([number, word]) => `${number} ${word}`);
  return `Machines: ${said.join(", ")}.`;
}

function moneySentence(perHourNow: number, today: number): string {
  if (perHourNow === 0 && today === 0) return "Nothing to pay today.";
  const rate = perHourNow === 0 ? "" : `${formatUsd(perHourNow)} an hour now, `;
  return `${rate}${formatUsd(today)} since midnight UTC.`;
}

function troubles(web: Web): Html {
  const now = web.now();
  const held = web.fleet
    .providers()
    .filter(({ backOff }) => backOff !== null && backOff.until > now);
  const deaf = web.fleet.forges().filter(({ failure }) => failure !== null);
  if (held.length + deaf.length === 0) return html``;
  const names = [
    ...held.map(({ name }) => `provider ${name} is being left alone for a while`),
    ...deaf.map(({ name }) => `forge ${name} does not answer`),
  ];
  return html`<p class="notice bad">
    <strong>Not all is well:</strong> ${names.join("; ")}. <a href="/health">See health</a>
  </p>`;
}

function firstSteps(): Html {
  return html`<div class="notice calm">
    <p><strong>Ready for the first job.</strong> From any repository, on this machine:</p>
    <pre><code>mayfly submit --repo . --wait -- npm test</code></pre>
    <p>It gets a machine of its own, which is gone once the job has ended.</p>
  </div>`;
}

async function waitingTable(web: Web, jobs: readonly StoredJob[], now: number): Promise<Html> {
  if (jobs.length === 0) return emptyState("Nothing waits.");
  const answers = new Map(
    await Promise.all(
      jobs.map(async (job) => [job.id, await whyJob(web.fleet, job, null, now)] as const),
    ),
  );
  const columns: Column<StoredJob>[] = [
    jobColumn,
    { name: "Since", cell: (job) => lasting(job.queuedAt, now) },
    { name: "Pool", cell: (job) => (job.pool === null ? html`—` : poolLink(job.pool)) },
    { name: "Asks for", cell: (job) => labelList(job.labels) },
    { name: "Why", kind: "wide", cell: (job) => isolated(answers.get(job.id)?.summary ?? "") },
  ];
  return table("Jobs that wait, longest first", columns, jobs);
}

function runningTable(
  jobs: readonly StoredJob[],
  machines: ReadonlyMap<string, Runner>,
  now: number,
): Html {
  if (jobs.length === 0) return emptyState("Nothing runs.");
  const machineOf = (job: StoredJob): Runner | undefined => machines.get(job.runner ?? "");
  const columns: Column<StoredJob>[] = [
    jobColumn,
    {
      name: "For",
      cell: (job) => (job.startedAt === null ? html`—` : lasting(job.startedAt, now)),
    },
    {
      name: "Where",
      kind: "wide",
      cell: (job) => {
        const machine = machineOf(job);
        return machine === undefined
          ? html`<bdi>${job.runner ?? "not said yet"}</bdi>`
          : html`${machineLink(machine.name)}
              <span class="soft">${machine.provider}, ${sizeText(machine.size)}</span>`;
      },
    },
    {
      name: "Price",
      kind: "number",
      cell: (job) => {
        const machine = machineOf(job);
        return machine === undefined ? money(null) : perHour(machine.price);
      },
    },
    {
      name: "So far",
      kind: "number",
      cell: (job) => {
        const machine = machineOf(job);
        return money(machine === undefined ? null : costSoFar(machine, now));
      },
    },
  ];
  return table("Jobs that run, newest first", columns, jobs);
}

function endedTable(
  jobs: readonly StoredJob[],
  machines: ReadonlyMap<string, Runner>,
  now: number,
): Html {
  if (jobs.length === 0) return emptyState("Nothing has ended yet.");
  const columns: Column<StoredJob>[] = [
    jobColumn,
    { name: "How", cell: jobBadge },
    { name: "When", cell: (job) => (job.endedAt === null ? html`—` : when(job.endedAt, now)) },
    {
      name: "Took",
      kind: "number",
      cell: ({ startedAt, endedAt }) =>
        startedAt === null || endedAt === null ? html`—` : lasted(endedAt - startedAt),
    },
    {
      name: "Cost",
      kind: "number",
      cell: (job) => {
        const machine = machines.get(job.runner ?? "");
        return money(machine === undefined ? null : costSoFar(machine, now));
      },
    },
  ];
  return table("Jobs that ended, newest first", columns, jobs);
}

/** A job's name, and whose it is. */
export const jobColumn: Column<StoredJob> = {
  name: "Job",
  kind: "title",
  cell: (job) => html`${jobLink(job.id, job.name)} ${repositoryLine(job)}`,
};

function repositoryLine({ repository }: StoredJob): Html {
  if (repository === "") return html``;
  return html`<span class="soft">${isolated(withoutPassword(repository))}</span>`;
}

function more(total: number, shown: readonly unknown[], href: string): Html {
  return total <= shown.length
    ? html``
    : html`<p class="more"><a href="${href}">and ${total - shown.length} more</a></p>`;
}

function count(number: number): Html {
  return number === 0 ? html`` : html`<span class="count">${number}</span>`;
}

function switchTo(window: TrendWindow, name: string, current: TrendWindow): Html {
  return html`<a
    href="/?window=${window}#trends"
    ${window === current ? html`aria-current="true"` : ""}
    >${name}</a
  >`;
}

function sumOf(all: readonly Counts[]): Counts {
  const sum = (field: keyof Counts): number => all.reduce((total, one) => total + one[field], 0);
  return {
    waiting: sum("waiting"),
    booting: sum("booting"),
    idle: sum("idle"),
    busy: sum("busy"),
    ending: sum("ending"),
  };
}
