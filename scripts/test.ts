/*
 * Runs the tests below the current folder: `node scripts/test.ts [--unit] [PATH...]`, where a PATH
 * is any part of a test file's path. Two files at a time, each in a process of its own. The last
 * line is `N passed, N failed, N skipped`; the status is not 0 when a test failed or none ran.
 */
import { globSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type FileResult, runFile } from "./runner/file.ts";
import { describeFile, describeRun } from "./runner/report.ts";

const concurrency = 2;
const testTimeoutMs = 120_000;
const fileTimeoutMs = 600_000;

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
  skipPattern: string | null,
): Promise<FileResult[]> {
  const results: FileResult[] = [];
  const interruption = new AbortController();
  const interrupt = (): void => interruption.abort();
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  const queue = files.entries();
  const worker = async (): Promise<void> => {
    for (const [index, file] of queue) {
      const result = await runFile(file, {
        testTimeoutMs,
        fileTimeoutMs,
        skipPattern,
        eventsFile: join(folder, `${index}.jsonl`),
        signal: interruption.signal,
      });
      if (interruption.signal.aborted) return;
      console.log(describeFile(result));
      results.push(result);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  if (interruption.signal.aborted) {
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
  const results = await runAll(files, folder, values.unit ? unitSkips : null);
  console.log(describeRun(results, performance.now() - startedAt));
  const ran = results.reduce((sum, result) => sum + result.passed + result.failed, 0);
  if (ran === 0 || results.some((result) => result.failed > 0)) process.exitCode ??= 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
