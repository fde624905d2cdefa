import { html } from "hono/html";
import type { JobOutcome, JobState } from "../../domain/job.ts";
import { formatUsd, type Price } from "../../domain/money.ts";
import type { RunnerState } from "../../domain/runner.ts";
import { duration, exactTime, outcomeWords, relative } from "../words.ts";

/** A piece of a page. Everything put into one is escaped, unless it is such a piece itself. */
export type Html = ReturnType<typeof html>;

/** `3 min ago`, with the exact time on hover and for programs; the script keeps it true. */
export function when(at: number, now: number): Html {
  return html`<time datetime="${new Date(at).toISOString()}" title="${exactTime(at)}" data-ago
    >${relative(at, now)}</time
  >`;
}

/** How long something has lasted that still goes on. */
export function lasting(since: number, now: number): Html {
  return html`<time
    datetime="${new Date(since).toISOString()}"
    title="since ${exactTime(since)}"
    data-lasting
    >${duration(now - since)}</time
  >`;
}

/** How long something lasted that is over. */
export function lasted(ms: number): Html {
  return html`<span class="number">${duration(ms)}</span>`;
}

type Tone = "wait" | "run" | "good" | "bad" | "calm";

export function badge(tone: Tone, word: string): Html {
  return html`<span class="badge ${tone}">${word}</span>`;
}

const outcomeTones: Readonly<Record<JobOutcome, Tone>> = {
  success: "good",
  failure: "bad",
  cancelled: "calm",
  skipped: "calm",
  timed_out: "bad",
  lost: "bad",
  refused: "bad",
  error: "bad",
};

export function jobBadge({
  state,
  outcome,
}: {
  readonly state: JobState;
  readonly outcome: JobOutcome | null;
}): Html {
  if (state === "waiting") return badge("wait", "waiting");
  if (state === "started") return badge("run", "running");
  return outcome === null
    ? badge("calm", "ended")
    : badge(outcomeTones[outcome], outcomeWords[outcome]);
}

const machineBadges: Readonly<Record<RunnerState, readonly [Tone, string]>> = {
  claimed: ["wait", "claimed"],
  asked: ["wait", "starting"],
  up: ["good", "up, idle"],
  started: ["run", "runs a job"],
  ended: ["calm", "being removed"],
  gone: ["calm", "gone"],
};

export function machineBadge(state: RunnerState): Html {
  const [tone, word] = machineBadges[state];
  return badge(tone, word);
}

export function jobLink(id: string, text: string): Html {
  return html`<a href="/jobs/${encodeURIComponent(id)}">${isolated(text)}</a>`;
}

export function machineLink(name: string): Html {
  return html`<a class="name" href="/machines/${encodeURIComponent(name)}">${name}</a>`;
}

export function poolLink(name: string): Html {
  return html`<a href="/pools#pool-${encodeURIComponent(name)}">${name}</a>`;
}

/** Text from outside, which may hold marks that would turn its neighbours around. */
export function isolated(text: string): Html {
  return html`<bdi>${text === "" ? "—" : text}</bdi>`;
}

export function labelList(labels: readonly string[]): Html {
  if (labels.length === 0) return html`<span class="soft">no labels</span>`;
  const shown = labels.slice(0, 12);
  const rest = labels.length - shown.length;
  return html`<span class="labels"
    >${shown.map((label) => html`<bdi class="label">${label}</bdi> `)}${
      rest > 0 ? html`<span class="soft">and ${rest} more</span>` : ""
    }</span
  >`;
}

export function perHour(price: Price): Html {
  return price.microUsdPerHour === 0
    ? html`<span class="soft">free</span>`
    : html`<span class="number">${formatUsd(price.microUsdPerHour)}/h</span>`;
}

export function money(microUsd: number | null): Html {
  return microUsd === null
    ? html`<span class="soft">—</span>`
    : html`<span class="number">${formatUsd(microUsd)}</span>`;
}

export interface Column<T> {
  readonly name: string;
  readonly cell: (row: T) => Html;
  /** `wide` takes the room there is; `number` is set to the right. */
  readonly kind?: "wide" | "number" | "title";
}

/**
 * A table that turns into cards on a phone; the roles keep it a table for readers that would
 * otherwise lose it there.
 */
export function table<T>(caption: string, columns: readonly Column<T>[], rows: readonly T[]): Html {
  return html`<table role="table" class="cards">
    <caption class="unseen">
      ${caption}
    </caption>
    <thead role="rowgroup">
      <tr role="row">
        ${columns.map(
          ({ name, kind }) =>
            html`<th role="columnheader" scope="col" class="${kind ?? ""}">${name}</th>`,
        )}
      </tr>
    </thead>
    <tbody role="rowgroup">
      ${rows.map(
        (row) =>
          html`<tr role="row">
            ${columns.map(
              ({ name, kind, cell }) =>
                html`<td role="cell" class="${kind ?? ""}" data-name="${name}">
                  <div>${cell(row)}</div>
                </td>`,
            )}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

/** What to say, and what to type next, where there is nothing to show. */
export function emptyState(text: string, command: string | null = null): Html {
  return html`<div class="empty">
    <p>${text}</p>
    ${command === null ? "" : html`<pre><code>${command}</code></pre>`}
  </div>`;
}

/**
 * A history read aloud: when each thing was, to the second, and how long after the one before.
 */
export function timeline(
  items: readonly { readonly at: number | null; readonly text: string }[],
  now: number,
): Html {
  let before: number | null = null;
  return html`<ol class="timeline">
    ${items.map(({ at, text }) => {
      const after =
        at === null || before === null || at - before < 1000 ? "" : `+${duration(at - before)}`;
      before = at ?? before;
      return html`<li>
        <span>${at === null ? "" : clock(at, now)} <span class="soft">${after}</span></span>
        <span>${isolated(text.slice(0, 1).toUpperCase() + text.slice(1))}</span>
      </li>`;
    })}
  </ol>`;
}

/** `13:05:09`, with the day when it was not today (UTC). */
function clock(at: number, now: number): Html {
  const text = exactTime(at);
  const isToday = text.slice(0, 10) === exactTime(now).slice(0, 10);
  return html`<time datetime="${new Date(at).toISOString()}" title="${text}"
    >${isToday ? text.slice(11, 19) : text.slice(5, 19)}</time
  >`;
}

/** A sentence of ours, whose `commands` are set as such. */
export function prose(text: string): Html {
  return html`${text.split("`").map((part, index) => (index % 2 === 0 ? part : html`<code>${part}</code>`))}`;
}
