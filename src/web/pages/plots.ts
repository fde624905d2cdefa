import { html } from "hono/html";
import { formatUsd } from "../../domain/money.ts";
import type { Trend, TrendPoint } from "../trends.ts";
import { duration, exactTime } from "../words.ts";
import type { Html } from "./parts.ts";

/*
 * Plots as pictures in the page itself, drawn here: nothing to load, nothing to run. The same
 * numbers stand below each as a table.
 */

export interface Series<P> {
  readonly name: string;
  readonly read: (point: P) => number | null;
}

export interface Plot<P = TrendPoint> {
  readonly id: string;
  readonly title: string;
  /** Its essence in a few words, said beside the title. */
  readonly essence: string;
  readonly shape: "bars" | "steps" | "spans";
  readonly series: readonly Series<P>[];
  readonly say: (value: number) => string;
  /** The least top of its scale, and how scales grow. */
  readonly ceilings: readonly number[];
}

/** Intervals of time, and how people call them. */
export interface Span<P> {
  readonly points: readonly P[];
  readonly stepMs: number;
  /** `the last 24 hours`. */
  readonly name: string;
  /** Said below the plot, from its left to its right. */
  readonly marks: readonly string[];
}

/** An interval ends at `at`, ms. */
interface Interval {
  readonly at: number;
}

const height = 100;
const stepWidth = 10;

/** Queue, time to start, machines and cost. */
export function plots(trend: Trend): Html {
  const isDay = trend.window === "24h";
  const span: Span<TrendPoint> = {
    points: trend.points,
    stepMs: trend.stepMs,
    name: isDay ? "the last 24 hours" : "the last 7 days",
    marks: isDay
      ? ["24 h ago", "18 h", "12 h", "6 h", "now"]
      : ["7 d ago", "5 d", "3½ d", "2 d", "now"],
  };
  return html`<div class="plots">
    ${[queuePlot(trend), startPlot(trend), machinePlot(trend), costPlot(trend)].map((plot) =>
      drawPlot(plot, span),
    )}
  </div>`;
}

function queuePlot({ points }: Trend): Plot {
  const most = Math.max(0, ...points.map(({ queue }) => queue));
  return {
    id: "queue",
    title: "Queue",
    essence: most === 0 ? "nobody had to wait" : `${most} at most`,
    shape: "steps",
    series: [{ name: "waiting jobs", read: ({ queue }) => queue }],
    say: (value) => `${Math.round(value * 10) / 10}`,
    ceilings: [2, 4, 10, 20, 50],
  };
}

function startPlot({ points }: Trend): Plot {
  const waits = points.flatMap(({ waitP95Ms }) => waitP95Ms ?? []);
  const worst = Math.max(0, ...waits);
  return {
    id: "start",
    title: "Time to start",
    essence: waits.length === 0 ? "no job started" : `95 of 100 within ${duration(worst)}`,
    shape: "spans",
    series: [
      { name: "half of the jobs within", read: ({ waitP50Ms }) => waitP50Ms },
      { name: "95 of 100 within", read: ({ waitP95Ms }) => waitP95Ms },
    ],
    say: (value) => (value === 0 ? "0" : duration(value)),
    ceilings: [1, 2, 4, 10, 20, 40, 60, 120, 300, 600, 1200, 3600, 7200].map((s) => s * 1000),
  };
}

function machinePlot({ points }: Trend): Plot {
  const hours = points.reduce((sum, { machineSeconds }) => sum + machineSeconds, 0) / 3600;
  return {
    id: "machines",
    title: "Machine-hours",
    essence:
      hours === 0
        ? "none was needed"
        : `${hours < 1 ? duration(hours * 3_600_000) : `${rounded(hours)} h`} in all`,
    shape: "bars",
    series: [{ name: "machine-hours", read: ({ machineSeconds }) => machineSeconds / 3600 }],
    say: (value) => `${rounded(value)} h`,
    ceilings: [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50],
  };
}

function costPlot({ points, stepMs }: Trend): Plot {
  const total = points.reduce((sum, { microUsd }) => sum + microUsd, 0);
  const perHour = 3_600_000 / stepMs;
  return {
    id: "cost",
    title: "Cost per hour",
    essence: total === 0 ? "nothing to pay" : `${formatUsd(Math.round(total))} in all`,
    shape: "bars",
    series: [{ name: "cost per hour", read: ({ microUsd }) => microUsd * perHour }],
    say: priceText,
    ceilings: [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10].map((usd) => usd * 1e6),
  };
}

/** One plot over a span of time. */
export function drawPlot<P extends Interval>(plot: Plot<P>, span: Span<P>): Html {
  const { points } = span;
  const values = points.flatMap((point) => plot.series.flatMap(({ read }) => read(point) ?? []));
  const top = ceilingOf(Math.max(0, ...values), plot.ceilings);
  const width = points.length * stepWidth;
  const describe = `${plot.title}, ${span.name}: ${plot.essence}.`;
  return html`<figure class="plot" id="plot-${plot.id}">
    <figcaption>
      <h3>${plot.title}</h3>
      <p>${plot.essence}</p>
    </figcaption>
    <div class="chart">
      <div class="scale" aria-hidden="true">
        <span>${plot.say(top)}</span><span>${plot.say(top / 2)}</span><span>${plot.say(0)}</span>
      </div>
      <svg
        viewBox="0 0 ${width} ${height}"
        preserveAspectRatio="none"
        role="img"
        aria-label="${describe}"
      >
        <path class="grid" d="M0 0H${width}M0 ${height / 2}H${width}M0 ${height}H${width}" />
        ${
          plot.shape === "spans"
            ? drawSpans(plot, points, top)
            : plot.series.map((series, index) => drawSeries(plot, series, index, points, top))
        }
        ${points.map((point, index) => hover(plot, point, index, span.stepMs))}
      </svg>
      <div class="days" aria-hidden="true">
        ${span.marks.map((mark) => html`<span>${mark}</span>`)}
      </div>
    </div>
    ${
      plot.series.length > 1
        ? html`<p class="legend" aria-hidden="true">
            ${plot.series.map(
              ({ name }, index) => html`<span class="key series-${index}">${name}</span> `,
            )}
          </p>`
        : ""
    }
    <details>
      <summary>As a table<span class="unseen">: ${plot.title}</span></summary>
      ${numbers(plot, span)}
    </details>
  </figure>`;
}

function drawSeries<P>(
  { shape, id }: Plot<P>,
  { read }: Series<P>,
  index: number,
  points: readonly P[],
  top: number,
): Html {
  const y = (value: number): string => (height - (value / top) * height).toFixed(2);
  if (shape === "bars") {
    const bars = points.map((point, column) => {
      const value = read(point) ?? 0;
      return value === 0
        ? ""
        : `M${column * stepWidth + 1} ${height}V${y(value)}h${stepWidth - 2}V${height}z`;
    });
    return html`<path class="bar" d="${bars.join("")}" />`;
  }
  // A short line for each interval, joined to the next where both have a value.
  let line = "";
  let last: number | null = null;
  for (const [column, point] of points.entries()) {
    const value = read(point);
    if (value !== null) {
      const from = column * stepWidth;
      line += `${last === null ? `M${from} ${y(value)}` : `V${y(value)}`}H${from + stepWidth}`;
    }
    last = value;
  }
  const area =
    id.startsWith("queue") && line !== ""
      ? html`<path class="area" d="${line}V${height}H0z" />`
      : html``;
  return html`${area}<path class="line series-${index}" d="${line}" />`;
}

/** From the first series' value to the second's, the first marked. */
function drawSpans<P>({ series }: Plot<P>, points: readonly P[], top: number): Html {
  const y = (value: number): string => (height - (value / top) * height).toFixed(2);
  let marks = "";
  let spans = "";
  for (const [column, point] of points.entries()) {
    const [low = null, high = null] = series.map(({ read }) => read(point));
    if (low === null || high === null) continue;
    const x = column * stepWidth + 1;
    spans += `M${x} ${y(low)}V${y(high)}h${stepWidth - 2}V${y(low)}z`;
    marks += `M${x} ${y(low)}h${stepWidth - 2}`;
  }
  return html`<path class="bar pale" d="${spans}" /><path class="line" d="${marks}" />`;
}

/** What a pointer resting on an interval is told. */
function hover<P extends Interval>(
  { series, say }: Plot<P>,
  point: P,
  index: number,
  stepMs: number,
): Html {
  const said = series.map(({ name, read }) => {
    const value = read(point);
    return `${name}: ${value === null ? "none" : say(value)}`;
  });
  const span = `${exactTime(point.at - stepMs).slice(0, 16)} to ${exactTime(point.at).slice(11, 16)}`;
  return html`<rect
    class="hover"
    x="${index * stepWidth}"
    y="0"
    width="${stepWidth}"
    height="${height}"
  >
    <title>${span}: ${said.join(", ")}</title>
  </rect>`;
}

function numbers<P extends Interval>(
  { title, series, say }: Plot<P>,
  { points, stepMs }: Span<P>,
): Html {
  return html`<div class="scroll" tabindex="0" role="group" aria-label="${title} as a table">
    <table class="numbers">
      <thead>
        <tr>
          <th scope="col">from (UTC)</th>
          ${series.map(({ name }) => html`<th scope="col">${name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${points.toReversed().map(
          (point) =>
            html`<tr>
              <th scope="row">${exactTime(point.at - stepMs).slice(0, 16)}</th>
              ${series.map(({ read }) => {
                const value = read(point);
                return html`<td>${value === null ? "—" : say(value)}</td>`;
              })}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** The first ceiling above the value; beyond the last, the last times a power of ten. */
function ceilingOf(value: number, ceilings: readonly number[]): number {
  const found = ceilings.find((ceiling) => ceiling >= value);
  if (found !== undefined) return found;
  const magnitude = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((factor) => factor * magnitude >= value) ?? 10) * magnitude;
}

/** For a scale: as few digits as tell it. */
function priceText(microUsd: number): string {
  const usd = microUsd / 1e6;
  if (usd === 0) return "$0";
  return usd >= 10 ? `$${Math.round(usd)}` : `$${usd.toFixed(usd < 0.02 ? 3 : 2)}`;
}

function rounded(value: number): string {
  return value >= 10 || value === 0 ? String(Math.round(value)) : value.toPrecision(2);
}
