/*
 * Runs the tests below the current folder: `node scripts/test.ts [--unit] [PATH...]`, where a PATH
 * is any part of a test file's path. Two files at a time, each in a process of its own. In a run of
 * everything, a file that failed among others runs once more alone: what passes then is told as
 * unsteady, and what does not has failed. The last line is `N passed, N failed, N skipped`; the status
 * is not 0 when a test failed or none ran.
 */
import { globSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { asUnsteady, type FileResult, runFile } from "./runner/file.ts";
import { describeFile, describeRun } from "./runner/report.ts";

const concurrency = 2;
/*
 * Far beyond what anything takes: they end what hangs. A test or a hook may give itself another with
 * `timeout`; that of a suite is for all of it together and gives its tests no more.
 */
const testTimeoutMs = 300_000;
const fileTimeoutMs = 900_000;
/** With more than so many failed files, or after so long, it is not the machine's doing. */
const secondRunsMax = 3;
const secondRunsUntilMs = 900_000;

/** What `--unit` runs: rules and state, with nothing from outside but Node and its packages. */
const unitFolders = ["domain", "store", "config", "fleet", "providers/fake"];
const unitSkips = "PostgreSQL";

function findFiles(unit: boolean, parts: readonly string[]): string[] {
  const patterns = unit
    ? unitFolders.map((folder) => `src/${folder}/**/*.test.ts`)
    : ["src/**/*.test.ts", "test/**/*.test.ts"];
  return globSync(patterns)
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => parts.length === 0 || parts.some((part) => path.includes(part)))
    .toSorted();
}

async function runAll(
  files: readonly string[],
  folder: string,
  { skipPattern, mayRunAgain }: { skipPattern: string | null; mayRunAgain: boolean },
): Promise<FileResult[]> {
  const results: FileResult[] = [];
  const interruption = new AbortController();
  const interrupt = (): void => interruption.abort();
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  const { signal } = interruption;
  const runOne = async (file: string, events: string): Promise<FileResult> => {
    const eventsFile = join(folder, `${events}.jsonl`);
    const limits = { testTimeoutMs, fileTimeoutMs };
    const result = await runFile(file, { ...limits, skipPattern, eventsFile, signal });
    if (!signal.aborted) console.log(describeFile(result));
    return result;
  };
  const queue = files.entries();
  const worker = async (): Promise<void> => {
    for (const [index, file] of queue) {
      const result = await runOne(file, `${index}`);
      if (signal.aborted) return;
      results.push(result);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const failed = results.filter((result) => result.failed > 0);
  if (mayRunAgain && failed.length <= secondRunsMax) {
    for (const first of failed) {
      if (signal.aborted || performance.now() - startedAt > secondRunsUntilMs) break;
      console.log(`once more, alone: ${first.file}`);
      const second = await runOne(first.file, `again-${results.indexOf(first)}`);
      if (second.failed === 0) results[results.indexOf(first)] = asUnsteady(first, second);
    }
  }
  if (signal.aborted) {
    console.log("interrupted");
    process.exitCode = 130;
  }
  return results.toSorted((a, b) => a.file.localeCompare(b.file));
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { unit: { type: "boolean", default: false } },
});
const startedAt = performance.now();
const files = findFiles(values.unit, positionals);
if (files.length === 0) console.log("no test file of that path");
const folder = await mkdtemp(join(tmpdir(), "mayfly-test-"));
try {
  const results = await runAll(files, folder, {
    skipPattern: values.unit ? unitSkips : null,
    mayRunAgain: !values.unit && positionals.length === 0,
  });
  console.log(describeRun(results, performance.now() - startedAt));
  const ran = results.reduce((sum, result) => sum + result.passed + result.failed, 0);
  if (ran === 0 || results.some((result) => result.failed > 0)) process.exitCode ??= 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
