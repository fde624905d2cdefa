import { html } from "hono/html";
import { formatUsd } from "../../domain/money.ts";
import type { Outcome } from "../../sim/trace/outcome.ts";
import { duration } from "../words.ts";
import type { Html } from "./parts.ts";

/* Runs beside each other as bars: what jobs waited, and what machines were there for it. */

export interface Compared {
  readonly name: string;
  readonly outcome: Outcome;
}

interface Part {
  readonly kind: string;
  readonly name: string;
  readonly read: (outcome: Outcome) => number;
}

interface Bars {
  readonly title: string;
  readonly essence: string;
  /** Beside each other, or (`isNested`) each from zero, the longest first. */
  readonly parts: readonly Part[];
  readonly isNested: boolean;
  readonly said: (outcome: Outcome) => string;
}

const waits: Bars = {
  title: "Wait",
  essence: "from queued to started; shorter is better",
  isNested: true,
  parts: [
    { kind: "nearly", name: "99 of 100 within", read: ({ wait }) => wait.p99Seconds },
    { kind: "most", name: "95 of 100 within", read: ({ wait }) => wait.p95Seconds },
    { kind: "half", name: "half within", read: ({ wait }) => wait.p50Seconds },
  ],
  said: ({ wait }) =>
    [wait.p50Seconds, wait.p95Seconds, wait.p99Seconds]
      .map((seconds) => (seconds === 0 ? "0 s" : duration(seconds * 1000)))
      .join(" · "),
};

const hours: Bars = {
  title: "Machine-hours",
  essence: "what machines did while they were paid for",
  isNested: false,
  parts: [
    { kind: "busy", name: "running jobs", read: ({ machineSeconds }) => machineSeconds.busy },
    { kind: "booting", name: "booting", read: ({ machineSeconds }) => machineSeconds.booting },
    { kind: "idle", name: "idle", read: ({ machineSeconds }) => machineSeconds.idle },
    { kind: "ending", name: "ending", read: ({ machineSeconds }) => machineSeconds.ending },
  ],
  said: ({ machineSeconds, microUsd }) => {
    const all = machineSeconds.all / 3600;
    const text = `${all >= 100 ? Math.round(all).toLocaleString("en") : all.toFixed(1)} h`;
    return microUsd === 0 ? text : `${text} · ${formatUsd(microUsd)}`;
  },
};

/** Two plots of bars, a bar a run. */
export function drawComparison(runs: readonly Compared[]): Html {
  return html`<div class="plots compared">${draw(waits, runs)} ${draw(hours, runs)}</div>`;
}

function draw({ title, essence, parts, isNested, said }: Bars, runs: readonly Compared[]): Html {
  const lengthOf = (outcome: Outcome): number => {
    const lengths = parts.map(({ read }) => read(outcome));
    return isNested ? Math.max(...lengths) : lengths.reduce((sum, one) => sum + one, 0);
  };
  const longest = Math.max(...runs.map(({ outcome }) => lengthOf(outcome)), Number.MIN_VALUE);
  return html`<figure class="plot">
    <figcaption>
      <h3>${title}</h3>
      <p>${essence}</p>
    </figcaption>
    <dl class="bars">
      ${runs.map(
        ({ name, outcome }) =>
          html`<dt>${name}</dt>
            <dd>
              <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
                <rect class="track" width="100" height="10" />
                ${rects(parts, isNested, outcome, longest)}
              </svg>
              <span class="number">${said(outcome)}</span>
            </dd>`,
      )}
    </dl>
    <p class="legend">
      ${(isNested ? parts.toReversed() : parts).map(
        ({ kind, name }) =>
          html`<span class="key plain"><span class="swatch ${kind}"></span>${name}</span> `,
      )}
    </p>
  </figure>`;
}

function rects(
  parts: readonly Part[],
  isNested: boolean,
  outcome: Outcome,
  longest: number,
): Html[] {
  let from = 0;
  return parts.map(({ kind, name, read }) => {
    const width = (read(outcome) / longest) * 100;
    const x = isNested ? 0 : from;
    from += width;
    return html`<rect class="${kind}" x="${x.toFixed(3)}" width="${width.toFixed(3)}" height="10">
      <title>${name}</title>
    </rect>`;
  });
}
