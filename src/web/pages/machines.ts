import { html } from "hono/html";
import { formatUsd } from "../../domain/money.ts";
import { runnerStates, type Runner, type RunnerState } from "../../domain/runner.ts";
import { counted } from "../../domain/words.ts";
import { listRunners } from "../../store/questions.ts";
import { parseBefore } from "../api/routes.ts";
import { nextPage, runnerOrThrow } from "../api/machines.ts";
import { costSoFar } from "../views.ts";
import type { Web } from "../web.ts";
import { why } from "../why.ts";
import { duration, sizeText } from "../words.ts";
import type { Page } from "./layout.ts";
import {
  emptyState,
  isolated,
  jobLink,
  labelList,
  lasted,
  lasting,
  machineBadge,
  machineLink,
  money,
  perHour,
  poolLink,
  prose,
  table,
  timeline,
  when,
  type Column,
  type Html,
} from "./parts.ts";

const machinesShown = 50;
const alive = runnerStates.filter((state) => state !== "gone");

/** Machines alive, or all there ever were. */
export async function machinesPage(web: Web, isAll: boolean, before: string | null): Promise<Page> {
  const now = web.now();
  const from = parseBefore(before ?? undefined);
  const machines = await listRunners(web.fleet.store.db, {
    ...(isAll ? {} : { states: alive }),
    ...(from === null ? {} : { before: from.at }),
    ...(from?.id === undefined ? {} : { beforeName: from.id }),
    limit: machinesShown,
  });
  const columns: Column<Runner>[] = [
    { name: "Machine", kind: "title", cell: ({ name }) => machineLink(name) },
    { name: "State", cell: ({ state }) => machineBadge(state) },
    { name: "Pool", cell: ({ pool }) => poolLink(pool) },
    {
      name: "Where",
      kind: "wide",
      cell: ({ provider, size }) => html`${provider}, ${sizeText(size)}`,
    },
    {
      name: "Job",
      cell: ({ job }) =>
        job === null
          ? html`<span class="soft">—</span>`
          : html`<span class="whole">${jobLink(job, job)}</span>`,
    },
    { name: "Age", kind: "number", cell: (machine) => age(machine, now) },
    { name: "Price", kind: "number", cell: ({ price }) => perHour(price) },
    { name: "Cost", kind: "number", cell: (machine) => money(costSoFar(machine, now)) },
  ];
  const next = nextPage(machines, machinesShown);
  const all = isAll ? "all&" : "";
  const content = html`<div class="lead heading">
      <h1>Machines</h1>
      <p class="switch" role="group" aria-label="Which">
        <a href="/machines" ${isAll ? "" : html`aria-current="true"`}>Alive</a>
        <a href="/machines?all" ${isAll ? html`aria-current="true"` : ""}>All</a>
      </p>
    </div>
    <section aria-label="Machines" data-part="machines">
      ${machines.length === 0 ? none(isAll) : table("Machines, newest first", columns, machines)}
      <nav class="pager" aria-label="Pages">
        ${before === null ? "" : html`<a href="/machines?${all}" rel="first">Newest</a>`}
        ${
          next === null
            ? ""
            : html`<a href="/machines?${all}before=${encodeURIComponent(next)}" rel="next"
                >Older</a
              >`
        }
      </nav>
    </section>`;
  return { title: "Machines", section: "/machines", live: before === null ? "all" : null, content };
}

function none(isAll: boolean): Html {
  return isAll
    ? emptyState(
        "No machine was made yet. One comes with the first job:",
        "mayfly submit -- uname -a",
      )
    : emptyState("No machine is alive. One comes with the next job.");
}

function age({ claimedAt, goneAt }: Runner, now: number): Html {
  return goneAt === null ? lasting(claimedAt, now) : lasted(goneAt - claimedAt);
}

/** One machine: its stations with their times, its price, its history. */
export async function machinePage(web: Web, name: string): Promise<Page> {
  const now = web.now();
  const machine = await runnerOrThrow(web, name);
  const answer = await why(web.fleet, name, now);
  const rows: (readonly [string, Html] | null)[] = [
    ["Pool", poolLink(machine.pool)],
    ["Where", html`${machine.provider}, ${sizeText(machine.size)}`],
    ["Forge", html`${machine.forge}`],
    ["Labels", labelList(machine.labels)],
    machine.job === null ? null : ["Job", jobLink(machine.job, machine.job)],
    ["Age", age(machine, now)],
    ["Price", perHour(machine.price)],
    ["Billing", html`${billing(machine)}`],
    [
      "Cost",
      html`<span class="number">${formatUsd(costSoFar(machine, now))}</span
        >${machine.state === "gone" ? "" : " so far"}`,
    ],
    machine.tries === 0 ? null : ["Failed calls", html`${machine.tries}`],
    machine.dueAt === null ? null : ["Next look", when(machine.dueAt, now)],
  ];
  const content = html`<div class="lead" data-part="lead">
      <p class="trail"><a href="/machines">Machines</a></p>
      <h1 class="name">${machine.name}</h1>
      <p class="under">${machineBadge(machine.state)}</p>
      <p class="why">${isolated(answer.summary)}</p>
      ${answer.advice === null ? "" : html`<p class="advice">${prose(answer.advice)}</p>`}
    </div>
    <div class="split">
      <div class="aside" data-part="facts">
        <dl class="facts">
          ${rows.map((row) =>
            row === null
              ? ""
              : html`<div>
                  <dt>${row[0]}</dt>
                  <dd>${row[1]}</dd>
                </div>`,
          )}
        </dl>
      </div>
      <div class="story">
        <section aria-labelledby="life" data-part="life">
          <h2 id="life">Life</h2>
          ${stations(machine, now)}
        </section>
        <section aria-labelledby="history" data-part="history">
          <h2 id="history">History</h2>
          ${timeline(answer.because, now)}
        </section>
      </div>
    </div>`;
  return {
    title: machine.name,
    section: "/machines",
    live: machine.state === "gone" ? null : `runner/${machine.name}`,
    content,
  };
}

const stationNames: Readonly<Record<RunnerState, string>> = {
  claimed: "Claimed",
  asked: "Asked for",
  up: "Up",
  started: "Started its job",
  ended: "Ended",
  gone: "Gone",
};

function stations(machine: Runner, now: number): Html {
  const times: Record<RunnerState, number | null> = {
    claimed: machine.claimedAt,
    asked: machine.askedAt,
    up: machine.upAt,
    started: machine.startedAt,
    ended: machine.endedAt,
    gone: machine.goneAt,
  };
  let before: number | null = null;
  return html`<ol class="stations">
    ${runnerStates.map((state) => {
      const at = times[state];
      const after = at === null || before === null ? "" : `after ${duration(at - before)}`;
      before = at ?? before;
      return html`<li class="${at === null ? "ahead" : "reached"}">
        <span>${stationNames[state]}</span>
        ${at === null ? html`<span class="soft">—</span>` : when(at, now)}
        <span class="soft">${after}</span>
      </li>`;
    })}
  </ol>`;
}

function billing({ price }: Runner): string {
  if (price.microUsdPerHour === 0) return "nothing";
  const step =
    price.quantumSeconds === 1
      ? "by the second"
      : `in steps of ${duration(price.quantumSeconds * 1000)}`;
  const least =
    price.minimumSeconds === 0 ? "" : `, at least ${counted(price.minimumSeconds, "second")}`;
  return `${step}${least}`;
}
