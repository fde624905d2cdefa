import { Chance } from "../src/sim/chance.ts";

/*
 * Makes examples/ci-trace.csv: three weeks of a small team's CI, invented but not unlike real ones.
 * Pushes come in working hours, each with a burst of jobs at once and one more when those are over;
 * nights have a scheduled run. node scripts/make-trace.ts > examples/ci-trace.csv
 */

const start = Date.UTC(2026, 2, 2);
const hourMs = 3_600_000;

interface Kind {
  readonly name: string;
  readonly labels: string;
  readonly typicalSeconds: number;
}

const burst: readonly Kind[] = [
  { name: "lint", labels: "linux;x64", typicalSeconds: 40 },
  { name: "unit", labels: "linux;x64", typicalSeconds: 150 },
  { name: "types", labels: "linux;x64", typicalSeconds: 70 },
  { name: "build", labels: "linux;x64;4cpu8gb", typicalSeconds: 320 },
  { name: "integration", labels: "linux;x64;4cpu8gb", typicalSeconds: 600 },
];
const last: Kind = { name: "package", labels: "linux;x64", typicalSeconds: 90 };
const nightly: Kind = { name: "nightly", labels: "linux;x64;4cpu8gb", typicalSeconds: 2400 };

/** The trace, the same for the same seed. */
export function makeTrace(seed: number): string {
  const next = new Chance(seed).stream("trace");
  const jobs: { at: number; seconds: number; kind: Kind; conclusion: string }[] = [];
  const add = (at: number, kind: Kind): number => {
    // Job times spread about as widely as this: half within 0.7 to 1.5 times the typical.
    const normal = Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
    const seconds = Math.max(1, Math.round(kind.typicalSeconds * Math.exp(0.5 * normal)));
    const conclusion = next() < 0.12 ? "failure" : "success";
    jobs.push({ at, seconds, kind, conclusion });
    return at + seconds * 1000;
  };
  for (let hour = 0; hour < 21 * 24; hour++) {
    const from = start + hour * hourMs;
    const [day, hourOfDay] = [Math.floor(hour / 24) % 7, hour % 24];
    if (hourOfDay === 2) add(from, nightly);
    const pushes = pushesAnHour(day, hourOfDay);
    for (let at = gap(pushes, next()); at < hourMs; at += gap(pushes, next())) {
      const kinds = burst.filter(() => next() < 0.85);
      const ends = kinds.map((kind) => add(from + at + Math.floor(next() * 4000), kind));
      if (next() < 0.5) add(Math.max(from + at, ...ends), last);
    }
  }
  jobs.sort((a, b) => a.at - b.at);
  const lines = jobs.map(({ at, seconds, kind, conclusion }) => {
    const queuedAt = new Date(at).toISOString().slice(0, 19);
    return `${queuedAt}Z,${seconds},${kind.labels},${kind.name},${conclusion}`;
  });
  return `queued_at,duration_s,labels,name,conclusion\n${lines.join("\n")}\n`;
}

function pushesAnHour(day: number, hour: number): number {
  const isWeekend = day >= 5;
  if (isWeekend) return hour >= 10 && hour < 20 ? 0.15 : 0.02;
  if (hour >= 9 && hour < 18) return hour === 12 ? 1.2 : 3.2;
  return hour >= 7 && hour < 22 ? 0.7 : 0.05;
}

/** ms to the next of so many an hour. */
function gap(anHour: number, random01: number): number {
  return (-Math.log(1 - random01) / anHour) * hourMs;
}

if (import.meta.main) process.stdout.write(makeTrace(1));
