import { html } from "hono/html";
import { jobStates, type JobState } from "../../domain/job.ts";
import { listJobs, type StoredJob } from "../../store/questions.ts";
import { runnersNamed } from "../../store/statistics.ts";
import { parseBefore } from "../api/routes.ts";
import { costSoFar } from "../views.ts";
import type { Web } from "../web.ts";
import type { Page } from "./layout.ts";
import { jobColumn } from "./overview.ts";
import {
  emptyState,
  jobBadge,
  lasted,
  lasting,
  money,
  poolLink,
  table,
  when,
  type Column,
  type Html,
} from "./parts.ts";

const jobsShown = 50;

export interface JobsQuery {
  readonly state: JobState | null;
  readonly pool: string | null;
  readonly before: string | null;
}

/** All jobs, newest first, by state and pool. */
export async function jobsPage(web: Web, query: JobsQuery): Promise<Page> {
  const { db } = web.fleet.store;
  const now = web.now();
  const from = parseBefore(query.before ?? undefined);
  const jobs = await listJobs(db, {
    ...(query.state === null ? {} : { state: query.state }),
    ...(query.pool === null ? {} : { pool: query.pool }),
    ...(from === null ? {} : { before: from.at }),
    ...(from?.id === undefined ? {} : { beforeId: from.id }),
    limit: jobsShown,
  });
  const machines = await runnersNamed(
    db,
    jobs.flatMap(({ runner }) => runner ?? []),
  );
  const columns: Column<StoredJob>[] = [
    jobColumn,
    { name: "State", cell: jobBadge },
    { name: "Queued", cell: (job) => when(job.queuedAt, now) },
    {
      name: "Pool",
      cell: (job) =>
        job.pool === null ? html`<span class="soft">none</span>` : poolLink(job.pool),
    },
    { name: "Took", kind: "number", cell: (job) => took(job, now) },
    {
      name: "Cost",
      kind: "number",
      cell: (job) => {
        const machine = machines.get(job.runner ?? "");
        return money(machine === undefined ? null : costSoFar(machine, now));
      },
    },
  ];
  const content = html`<div class="lead">
      <h1>Jobs</h1>
    </div>
    ${filterForm(web, query)}
    <section aria-label="Jobs" data-part="jobs">
      ${jobs.length === 0 ? none(query) : table("Jobs, newest first", columns, jobs)}
      ${pager(query, jobs)}
    </section>`;
  // Older pages stay as they are while somebody reads them.
  return { title: "Jobs", section: "/jobs", live: query.before === null ? "all" : null, content };
}

function took({ state, startedAt, endedAt }: StoredJob, now: number): Html {
  if (startedAt === null) return html`<span class="soft">—</span>`;
  if (endedAt !== null) return lasted(endedAt - startedAt);
  return state === "started" ? lasting(startedAt, now) : html`—`;
}

function filterForm(web: Web, query: JobsQuery): Html {
  const option = (value: string, name: string, current: string | null): Html =>
    html`<option value="${value}" ${value === (current ?? "") ? html`selected` : ""}>
      ${name}
    </option>`;
  const names: Record<JobState, string> = {
    waiting: "waiting",
    started: "running",
    ended: "ended",
  };
  return html`<form class="filter" action="/jobs">
    <label
      >State
      <select name="state">
        ${option("", "any", query.state)}
        ${jobStates.map((state) => option(state, names[state], query.state))}
      </select></label
    >
    <label
      >Pool
      <select name="pool">
        ${option("", "any", query.pool)}
        ${web.fleet.pools.map(({ name }) => option(name, name, query.pool))}
      </select></label
    >
    <button>Show</button>
  </form>`;
}

function none(query: JobsQuery): Html {
  if (query.before !== null) return emptyState("That was the last page.");
  if (query.state !== null || query.pool !== null) return emptyState("No job is like that.");
  return emptyState(
    "No job has come yet. Submit one from any repository:",
    "mayfly submit --repo . --wait -- npm test",
  );
}

function pager(query: JobsQuery, jobs: readonly StoredJob[]): Html {
  const last = jobs.length < jobsShown ? undefined : jobs.at(-1);
  const address = (before: string | null): string => {
    const entries = Object.entries({ state: query.state, pool: query.pool, before });
    const given = entries.filter((entry): entry is [string, string] => entry[1] !== null);
    return `/jobs?${new URLSearchParams(given).toString()}`;
  };
  return html`<nav class="pager" aria-label="Pages">
    ${query.before === null ? "" : html`<a href="${address(null)}" rel="first">Newest</a>`}
    ${
      last === undefined
        ? ""
        : html`<a href="${address(`${last.queuedAt}:${last.id}`)}" rel="next">Older</a>`
    }
  </nav>`;
}
