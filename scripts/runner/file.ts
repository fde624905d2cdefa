import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Report, Result } from "./reporter.ts";

/** What running one test file came to. */
export interface FileResult {
  readonly file: string;
  readonly durationMs: number;
  readonly passed: number;
  readonly failed: number;
  readonly failures: readonly Failure[];
  /** What failed among others and passed alone. */
  readonly unsteady?: readonly Failure[];
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
  readonly results: readonly Result[];
  /** The end of what it printed, both streams together. */
  readonly output: string;
}

export interface Failure {
  readonly name: string;
  readonly text: string;
}

/** Of a file that failed among others, and then passed alone. */
export function asUnsteady(first: FileResult, second: FileResult): FileResult {
  return { ...second, unsteady: first.failures };
}

/** How its process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly timedOut: boolean;
}

export interface FileOptions {
  readonly testTimeoutMs: number;
  readonly fileTimeoutMs: number;
  /** Tests of such a name are left out. */
  readonly skipPattern: string | null;
  /** Where its events go; a file of its own. */
  readonly eventsFile: string;
  /** Ends it at once. */
  readonly signal: AbortSignal;
}

const outputBytesMax = 64 * 1024;
const reporter = fileURLToPath(new URL("reporter.ts", import.meta.url));

/** Runs one test file in a process group of its own, of which nothing is left afterwards. */
export async function runFile(file: string, options: FileOptions): Promise<FileResult> {
  const startedAt = performance.now();
  const { ending, output } = await runProcess(file, options);
  const reports = await readReports(options.eventsFile);
  const durationMs = performance.now() - startedAt;
  return { file, durationMs, output, ...judge(reports, ending, options.skipPattern !== null) };
}

async function runProcess(
  file: string,
  options: FileOptions,
): Promise<{ ending: Ending; output: string }> {
  const child = spawn(
    process.execPath,
    [
      `--test-reporter=${reporter}`,
      `--test-reporter-destination=${options.eventsFile}`,
      `--test-timeout=${options.testTimeoutMs}`,
      ...(options.skipPattern === null ? [] : [`--test-skip-pattern=${options.skipPattern}`]),
      file,
    ],
    {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      // Set where a test started us; Node would take the file for a part of that test.
      env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    },
  );
  let output = Buffer.alloc(0);
  const keepTail = (chunk: Buffer): void => {
    output = Buffer.concat([output, chunk]).subarray(-outputBytesMax);
  };
  child.stdout.on("data", keepTail);
  child.stderr.on("data", keepTail);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(child.pid);
  }, options.fileTimeoutMs);
  const stop = (): void => killGroup(child.pid);
  options.signal.addEventListener("abort", stop);
  try {
    // Not "close": something it left behind may hold the pipes open.
    const ended = await new Promise<Omit<Ending, "timedOut">>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve({ code, signal }));
    });
    killGroup(child.pid);
    await new Promise((resolve) => setImmediate(resolve));
    return { ending: { ...ended, timedOut }, output: output.toString() };
  } finally {
    clearTimeout(timer);
    options.signal.removeEventListener("abort", stop);
    child.stdout.destroy();
    child.stderr.destroy();
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nothing of it is left, which is what we want.
  }
}

async function readReports(path: string): Promise<Report[]> {
  let text = "";
  try {
    text = await readFile(path, "utf8");
  } catch {
    // It broke before its first event; its exit status says so.
  }
  const lines = text.split("\n");
  // What follows the last newline was cut off by its end.
  return lines.slice(0, -1).map((line) => JSON.parse(line) as Report);
}

/**
 * Counts tests, not suites; but a suite that is skipped, or fails by itself, counts as one, and so
 * does a file that breaks, ends early, or has no test in it (unless tests were `leftOut`).
 */
export function judge(
  reports: readonly Report[],
  ending: Ending,
  leftOut = false,
): Omit<FileResult, "file" | "durationMs" | "output"> {
  const results = reports.flatMap((report) => (report.kind === "result" ? [report.result] : []));
  const failures: Failure[] = [];
  const skipped: { name: string; reason: string }[] = [];
  let passed = 0;
  let failed = 0;
  for (const result of results) {
    const name = result.path.join(" > ");
    if (result.skipped !== null) skipped.push({ name, reason: result.skipped });
    else if (result.failure === null) passed += result.suite ? 0 : 1;
    else if (result.todo !== null) skipped.push({ name, reason: `to do: ${result.todo}` });
    else if (result.failure === "children") failed += result.suite ? 0 : 1;
    else {
      failed += 1;
      failures.push({ name, text: result.failure.text });
    }
  }
  const broken = breakage(reports, ending, failed, leftOut || passed + failed + skipped.length > 0);
  if (broken !== null) {
    failed += 1;
    const notes = reports.flatMap((report) => (report.kind === "note" ? [report.text] : []));
    failures.push({ name: "the file itself", text: [broken, ...notes].join("\n") });
  }
  return { passed, failed, failures, skipped, results };
}

/** What is wrong with the file as a whole, beside the tests that failed in it. */
function breakage(
  reports: readonly Report[],
  ending: Ending,
  failed: number,
  hasTests: boolean,
): string | null {
  if (ending.timedOut) return "did not end in time";
  if (ending.signal !== null) return `was ended by ${ending.signal}`;
  if (failed === 0 && ending.code !== 0) {
    return `exited with status ${ending.code}, though no test failed`;
  }
  if (!hasTests) return "has no test, or exited before one had ended";
  const ended = reports.length === 0 || reports.some(({ kind }) => kind === "end");
  return ended ? null : "exited before its tests had ended";
}
