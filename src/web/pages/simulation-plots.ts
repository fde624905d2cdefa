import { html } from "hono/html";
import type { Outcome, OutcomePoint } from "../../sim/trace/outcome.ts";
import type { Trace } from "../../sim/trace/trace.ts";
import { duration } from "../words.ts";
import type { Html } from "./parts.ts";
import { drawPlot, type Plot, type Span } from "./plots.ts";

/** How a run went over time: queue, waits, machines. `id` tells it from others on the page. */
export function simulationPlots(
  trace: Trace,
  outcome: Outcome,
  isDated: boolean,
  id: string,
): Html {
  const { points } = outcome;
  const from = trace.queuedAt[0] ?? 0;
  const stepMs = Math.max(1, (points[0]?.at ?? from + 1) - from);
  const span: Span<OutcomePoint> = {
    points,
    stepMs,
    name: "over the whole history",
    marks: marksOf(from, points.at(-1)?.at ?? from, isDated),
  };
  const plots = [queuePlot(outcome), waitPlot(outcome), usePlot(outcome), idlePlot(outcome)];
  return html`<div class="plots">
    ${plots.map((plot) => drawPlot({ ...plot, id: `${plot.id}-${id}` }, span))}
  </div>`;
}

const marksShown = 4;

function marksOf(from: number, to: number, isDated: boolean): string[] {
  return Array.from({ length: marksShown + 1 }, (_, index) => {
    const at = from + ((to - from) * index) / marksShown;
    if (!isDated) return at === from ? "0" : duration(at - from).replace(/^(\d+ d) .*$/, "$1");
    const text = new Date(at).toISOString();
    return to - from > 2 * 86_400_000 ? text.slice(0, 10) : text.slice(11, 16);
  });
}

const counts = [2, 4, 10, 20, 50, 100, 200, 500, 1000];
const times = [1, 2, 4, 10, 20, 40, 60, 120, 300, 600, 1200, 3600, 7200].map((s) => s * 1000);

function queuePlot({ peakQueue }: Outcome): Plot<OutcomePoint> {
  return {
    id: "queue",
    title: "Queue",
    essence: peakQueue === 0 ? "nobody had to wait" : `${peakQueue} at most`,
    shape: "steps",
    series: [{ name: "waiting jobs", read: ({ queue }) => queue }],
    say: amount,
    ceilings: counts,
  };
}

function waitPlot({ wait }: Outcome): Plot<OutcomePoint> {
  return {
    id: "wait",
    title: "Time to start",
    essence: `95 of 100 within ${said(wait.p95Seconds * 1000)}`,
    shape: "spans",
    series: [
      { name: "half of the jobs within", read: ({ waitP50Ms }) => waitP50Ms },
      { name: "95 of 100 within", read: ({ waitP95Ms }) => waitP95Ms },
    ],
    say: said,
    ceilings: times,
  };
}

function usePlot({ machineSeconds, points, peakMachines }: Outcome): Plot<OutcomePoint> {
  const seconds = stepSeconds(points);
  const used = (point: OutcomePoint): number => {
    const { booting, busy, idle, ending } = point.seconds;
    return (booting + busy + idle + ending) / seconds;
  };
  return {
    id: "machines",
    title: "Machines",
    essence: `${peakMachines} at most, ${amount(machineSeconds.all / 3600)} h in all`,
    shape: "bars",
    series: [{ name: "machines alive, on average", read: used }],
    say: amount,
    ceilings: counts,
  };
}

function idlePlot({ idleShare, points }: Outcome): Plot<OutcomePoint> {
  const seconds = stepSeconds(points);
  return {
    id: "idle",
    title: "Idle machines",
    essence: `${Math.round(idleShare * 100)} % of machine time`,
    shape: "bars",
    series: [{ name: "machines idle, on average", read: (point) => point.seconds.idle / seconds }],
    say: amount,
    ceilings: counts,
  };
}

function stepSeconds(points: readonly OutcomePoint[]): number {
  const [first, second] = points;
  return second === undefined || first === undefined ? 60 : (second.at - first.at) / 1000;
}

function amount(value: number): string {
  return value >= 10 || Number.isInteger(value)
    ? Math.round(value).toLocaleString("en")
    : value.toFixed(1);
}

function said(ms: number): string {
  return ms === 0 ? "0 s" : duration(ms);
}
