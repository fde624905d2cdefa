import { html } from "hono/html";
import type { Runner } from "../../domain/runner.ts";
import { findRunner, type StoredJob } from "../../store/questions.ts";
import { listArtifacts, logOf, type Artifact } from "../../store/logs.ts";
import { jobOrThrow } from "../api/jobs.ts";
import { costSoFar } from "../views.ts";
import type { Web } from "../web.ts";
import { why, type Why } from "../why.ts";
import { bytesText, sizeText, withoutPassword } from "../words.ts";
import { LogPainter, logWindow, type LogWindow } from "./joblog.ts";
import type { Page } from "./layout.ts";
import {
  isolated,
  jobBadge,
  labelList,
  lasted,
  lasting,
  machineLink,
  money,
  perHour,
  poolLink,
  prose,
  table,
  timeline,
  when,
  type Html,
} from "./parts.ts";

/** One job: how it stands and why, its output, its history, what it brought back. */
export async function jobPage(
  web: Web,
  id: string,
  before: number | null,
  session: string | null,
): Promise<Page> {
  const { db } = web.fleet.store;
  const now = web.now();
  const job = await jobOrThrow(web, id);
  const [machine, answer, artifacts, log] = await Promise.all([
    job.runner === null ? null : findRunner(db, job.runner),
    why(web.fleet, job.id, now),
    listArtifacts(db, job.id),
    job.work === null && job.runner === null ? null : logWindow(db, logOf(job), before),
  ]);
  const content = html`<div class="lead" data-part="lead">
      <p class="trail"><a href="/jobs">Jobs</a></p>
      <h1 class="${job.name.length > 60 ? "long" : ""}">${isolated(job.name)}</h1>
      <p class="under">
        ${jobBadge(job)}
        <span>${isolated(withoutPassword(job.repository) || "no repository")}</span>
      </p>
      <p class="why">${isolated(answer.summary)}</p>
      ${answer.advice === null ? "" : html`<p class="advice">${prose(answer.advice)}</p>`}
    </div>
    <div class="split">
      <div class="aside" data-part="facts">
        ${jobFacts(job, machine, now)} ${cancelForm(web, job, session)}
      </div>
      <div class="story">
        ${logSection(job, log, before)} ${artifactSection(job, artifacts, now)}
        ${historySection(answer, now)}
      </div>
    </div>`;
  return {
    title: job.name,
    section: "/jobs",
    live: job.state === "ended" ? null : `job/${job.id}`,
    content,
  };
}

function jobFacts(job: StoredJob, machine: Runner | null, now: number): Html {
  const rows: (readonly [string, Html] | null)[] = [
    ["Id", html`<span class="name">${job.id}</span>`],
    [
      "Pool",
      job.pool === null ? html`<span class="soft">none takes it</span>` : poolLink(job.pool),
    ],
    job.runner === null
      ? null
      : ["Machine", machine === null ? isolated(job.runner) : machineLink(machine.name)],
    machine === null ? null : ["Where", html`${machine.provider}, ${sizeText(machine.size)}`],
    ["Asks for", labelList(job.labels)],
    ["Trust", html`${job.trust === "fork" ? "fork: a stranger may have written it" : "trusted"}`],
    ["Queued", when(job.queuedAt, now)],
    waitedRow(job, now),
    ranRow(job, now),
    job.exitCode === null
      ? null
      : ["Exit status", html`<span class="number">${job.exitCode}</span>`],
    machine === null ? null : ["Cost", costText(machine, now)],
    job.work === null
      ? null
      : ["Command", html`<code class="command">${job.work.command.map(quoted).join(" ")}</code>`],
    job.work === null || Object.keys(job.work.environment).length === 0
      ? null
      : [
          "Environment",
          html`<span class="soft">${Object.keys(job.work.environment).sort().join(", ")}</span>`,
        ],
    linkRow(job),
  ];
  return html`<dl class="facts">
    ${rows.map((row) =>
      row === null
        ? ""
        : html`<div>
            <dt>${row[0]}</dt>
            <dd>${row[1]}</dd>
          </div>`,
    )}
  </dl>`;
}

function costText(machine: Runner, now: number): Html {
  if (machine.price.microUsdPerHour === 0) return perHour(machine.price);
  return html`${money(costSoFar(machine, now))} at ${perHour(machine.price)}`;
}

function waitedRow(
  { queuedAt, startedAt, endedAt }: StoredJob,
  now: number,
): readonly [string, Html] {
  const until = startedAt ?? endedAt;
  return until === null
    ? ["Waits for", lasting(queuedAt, now)]
    : ["Waited", lasted(until - queuedAt)];
}

function ranRow(
  { state, startedAt, endedAt }: StoredJob,
  now: number,
): readonly [string, Html] | null {
  if (startedAt === null) return null;
  if (endedAt !== null) return ["Ran", lasted(endedAt - startedAt)];
  return state === "started" ? ["Runs for", lasting(startedAt, now)] : null;
}

function atForge(job: StoredJob): Html {
  const row = linkRow(job);
  return row === null ? html`.` : html`: see it at ${row[1]}.`;
}

/** Only an address that a browser opens as a page; a forge could send any text. */
function linkRow({ url, forge }: StoredJob): readonly [string, Html] | null {
  if (url === null || !/^https?:\/\//i.test(url)) return null;
  return ["At its forge", html`<a href="${url}" rel="noreferrer">${forge}</a>`];
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function cancelForm(web: Web, job: StoredJob, session: string | null): Html {
  if (job.work === null || job.state === "ended") return html``;
  if (session === null) {
    if (!web.access.hasToken) return html``;
    const to = encodeURIComponent(`/jobs/${encodeURIComponent(job.id)}`);
    return html`<p class="soft"><a href="/sign-in?to=${to}">Sign in</a> to cancel it.</p>`;
  }
  return html`<details class="confirm">
    <summary>Cancel this job</summary>
    <form method="post" action="/jobs/${encodeURIComponent(job.id)}/cancel">
      <input type="hidden" name="form" value="${web.access.formToken(session)}" />
      <p>
        ${job.state === "started" ? "Its command is stopped and its machine removed." : "It leaves the queue."}
      </p>
      <button class="danger">Yes, cancel it</button>
    </form>
  </details>`;
}

function logSection(job: StoredJob, log: LogWindow | null, before: number | null): Html {
  if (log === null) {
    return html`<section aria-labelledby="log">
      <h2 id="log">Log</h2>
      <div class="empty"><p>Its forge keeps its log${atForge(job)}</p></div>
    </section>`;
  }
  const isRunners = job.work === null;
  const address = `/jobs/${encodeURIComponent(job.id)}`;
  const painter = new LogPainter(job.startedAt);
  const lines = painter.push(log.frames);
  const rest = painter.unfinished();
  const isLive = job.state !== "ended" && log.isEnd;
  const isEmpty = lines.length + rest.length === 0;
  return html`<section aria-labelledby="log">
    <div class="heading">
      <h2 id="log">${isRunners ? "Its runner's log" : "Log"}</h2>
      <p class="tools">
        ${before === null ? "" : html`<a href="${address}#log">Its end</a>`}
        <a href="/v1/jobs/${encodeURIComponent(job.id)}/log?format=text">Raw</a>
        <a href="/v1/jobs/${encodeURIComponent(job.id)}/log?format=text&marks">With times</a>
      </p>
    </div>
    ${isRunners ? html`<p class="soft">Its forge keeps the job's own log${atForge(job)}</p>` : ""}
    ${
      log.earlier === null
        ? ""
        : html`<p class="more">
            <a href="${address}?before=${log.earlier}#log">Earlier output</a>
          </p>`
    }
    <div
      class="log"
      id="log-box"
      role="region"
      aria-labelledby="log"
      tabindex="0"
      ${isLive ? html`data-log="${address}/live"` : ""}
    >
      <p class="log-empty" ${isEmpty ? "" : html`hidden`}>${emptyLog(job)}</p>
      <ol id="log-lines">
        ${lines}
      </ol>
      <ol id="log-rest">
        ${rest}
      </ol>
    </div>
  </section>`;
}

function emptyLog({ state }: StoredJob): string {
  if (state === "waiting") return "Its output appears here once it runs.";
  return state === "started" ? "No output yet." : "It wrote nothing.";
}

function artifactSection(job: StoredJob, artifacts: readonly Artifact[], now: number): Html {
  if (artifacts.length === 0) return html`<section data-part="artifacts" hidden></section>`;
  const address = (path: string): string =>
    `/v1/jobs/${encodeURIComponent(job.id)}/artifacts/${path.split("/").map(encodeURIComponent).join("/")}`;
  return html`<section aria-labelledby="artifacts" data-part="artifacts">
    <h2 id="artifacts">Artifacts</h2>
    ${table(
      "What it brought back",
      [
        {
          name: "Path",
          kind: "title",
          cell: ({ path }) => html`<a href="${address(path)}" download>${isolated(path)}</a>`,
        },
        {
          name: "Size",
          kind: "number",
          cell: ({ size }) => html`<span class="number">${bytesText(size)}</span>`,
        },
        { name: "Kept", cell: ({ at }) => when(at, now) },
        {
          name: "SHA-256",
          kind: "wide",
          cell: ({ sha256 }) =>
            html`<span class="name" title="${sha256}">${sha256.slice(0, 16)}…</span>`,
        },
      ],
      artifacts,
    )}
  </section>`;
}

function historySection(answer: Why, now: number): Html {
  return html`<section aria-labelledby="history" data-part="history">
    <h2 id="history">History</h2>
    ${timeline(answer.because, now)}
  </section>`;
}
