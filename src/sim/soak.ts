import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { allFaults, faultPairs, faults, type Fault } from "./faults.ts";
import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";
import { shrink } from "./shrink.ts";
import type { SeedResult, Share } from "./soak-worker.ts";
import { storyOf } from "./story.ts";

const usage = `npm run soak -- [--seeds N] [--from SEED] [--faults NAME,NAME] [--first]
npm run soak -- --seed SEED [--faults NAME,NAME]    the story of one run

Faults: ${allFaults.join(", ")}`;

/** Stories told at the end of a soak, the shortest we can make of them. */
const storiesMax = 3;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "0" },
    seed: { type: "string" },
    faults: { type: "string" },
    /** Stops at the first violation, without a story. */
    first: { type: "boolean", default: false },
    workers: { type: "string", default: `${availableParallelism()}` },
    help: { type: "boolean", default: false },
  },
});

if (values.help) console.log(usage);
else if (values.seed !== undefined) await tellOne(wholeNumber("seed", values.seed));
else await soak(wholeNumber("from", values.from), wholeNumber("seeds", values.seeds));

async function tellOne(seed: number): Promise<void> {
  const scenario = scenarioOf(seed, chosenFaults() ?? undefined);
  const outcome = await run(scenario);
  console.log(storyOf(scenario, outcome));
  const { violation } = outcome;
  if (violation === null) return;
  const smaller = await shrink(scenario, violation.invariant);
  console.log(`\nThe same with less, after ${smaller.runs} runs:\n`);
  console.log(storyOf(smaller.scenario, smaller.outcome));
  process.exitCode = 1;
}

async function soak(from: number, seeds: number): Promise<void> {
  const startedAt = performance.now();
  const results: SeedResult[] = [];
  const workers = Math.max(1, wholeNumber("workers", values.workers));
  const stop = new AbortController();
  await Promise.all(
    Array.from({ length: workers }, (_, index) =>
      work(
        { from: from + index, seeds: seeds - index, every: workers, faults: chosenFaults() },
        (result) => {
          results.push(result);
          if (result.violation !== null) console.log(`seed ${result.seed}: ${result.violation}`);
          if (result.violation !== null && values.first) stop.abort();
        },
        stop.signal,
      ),
    ),
  );
  const perSecond = results.length / ((performance.now() - startedAt) / 1000);
  if (!values.first) report(results);
  const broken = results.filter(({ violation }) => violation !== null);
  if (!values.first) {
    for (const { seed } of broken.sort((a, b) => a.seed - b.seed).slice(0, storiesMax)) {
      console.log(`\nseed ${seed}, made small:\n`);
      const scenario = scenarioOf(seed, chosenFaults() ?? undefined);
      const { violation } = await run(scenario);
      if (violation === null) continue;
      const { scenario: small, outcome } = await shrink(scenario, violation.invariant);
      console.log(storyOf(small, outcome));
    }
  }
  const rate = perSecond.toFixed(1);
  console.log(`${results.length} seeds, ${broken.length} violations, ${rate} seeds/s`);
  if (broken.length > 0) process.exitCode = 1;
}

function work(
  share: Share,
  heard: (result: SeedResult) => void,
  signal: AbortSignal,
): Promise<void> {
  const worker = new Worker(new URL("soak-worker.ts", import.meta.url), { workerData: share });
  signal.addEventListener("abort", () => void worker.terminate(), { once: true });
  return new Promise((resolve, reject) => {
    worker.on("message", heard);
    worker.once("error", reject);
    worker.once("exit", () => resolve());
  });
}

/** What was tried, so that a soak in which nothing went wrong is told from one that tried nothing. */
function report(results: readonly SeedResult[]): void {
  console.log("fault                seeds with it  happened in  times");
  for (const fault of allFaults) {
    const chosen = results.filter((result) => result.chosen.includes(fault)).length;
    const times = results.flatMap(({ happened }) => happened.filter(([it]) => it === fault));
    const sum = times.reduce((total, [, count]) => total + count, 0);
    const counts = [chosen, times.length, sum].map((count, index) =>
      `${count}`.padStart([13, 11, 5][index] ?? 0),
    );
    console.log(`${fault.padEnd(20)} ${counts.join("  ")}  ${faults[fault]}`);
  }
  const sum = (of: (result: SeedResult) => number): number =>
    results.reduce((total, result) => total + of(result), 0);
  const companies = new Set(results.map(({ chosen }) => chosen.join(",")));
  const pairs = faultPairs.filter((pair) => companies.has(pair.join(","))).length;
  const alone = allFaults.filter((fault) => companies.has(fault)).length;
  const days = (sum(({ simulatedMs }) => simulatedMs) / 86_400_000).toFixed(1);
  console.log(
    `${sum(({ jobs }) => jobs)} jobs, ${sum(({ machines }) => machines)} machines, ` +
      `${sum(({ crashes }) => crashes)} crashes in ${days} simulated days; ` +
      `${alone} of ${allFaults.length} faults alone, ${pairs} of ${faultPairs.length} pairs`,
  );
}

function chosenFaults(): readonly Fault[] | null {
  if (values.faults === undefined) return null;
  const names = values.faults.split(",").filter((name) => name !== "");
  const unknown = names.find((name) => !(name in faults));
  if (unknown !== undefined) refuse(`there is no fault ${JSON.stringify(unknown)}`);
  return names as Fault[];
}

function wholeNumber(option: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) refuse(`--${option} ${JSON.stringify(text)}: give a whole number`);
  return Number(text);
}

function refuse(why: string): never {
  console.error(`${why}\n\n${usage}`);
  process.exit(2);
}
