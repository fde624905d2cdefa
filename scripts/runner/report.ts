import type { FileResult } from "./file.ts";

const slowMs = 2000;
const slowListed = 10;

/** One line for a file, then its failures in full. */
export function describeFile(result: FileResult): string {
  const counts = [
    result.passed > 0 ? `${result.passed} passed` : "",
    result.failed > 0 ? `${result.failed} failed` : "",
    result.skipped.length > 0 ? `${result.skipped.length} skipped` : "",
  ].filter((count) => count !== "");
  const mark = result.failed > 0 ? "FAIL" : "ok  ";
  const lines = [
    `${mark} ${result.file}: ${counts.join(", ") || "left out"} (${seconds(result.durationMs)})`,
  ];
  for (const failure of result.failures) {
    lines.push("", `  ✖ ${failure.name}`, indent(failure.text, "    "));
  }
  if (result.failed > 0) {
    if (result.output.trim() !== "") {
      lines.push("", "  what it printed:", indent(result.output.trimEnd(), "    | "));
    }
    lines.push("");
  }
  return lines.join("\n");
}

/** What to know after the run: what was skipped and why, what is slow, what failed, the counts. */
export function describeRun(results: readonly FileResult[], durationMs: number): string {
  const lines = [
    ...section("Skipped:", skips(results)),
    ...section(`Slower than ${seconds(slowMs)}:`, slowest(results)),
    ...section(
      "Unsteady: failed among others, passed alone; mend them:",
      results.flatMap(({ file, unsteady = [] }) => unsteady.map(({ name }) => `${file}: ${name}`)),
    ),
    ...section(
      "Failed:",
      results.flatMap(({ file, failures }) => failures.map(({ name }) => `${file}: ${name}`)),
    ),
    "",
    `${results.length} files in ${seconds(durationMs)}`,
    summary(results),
  ];
  return lines.join("\n");
}

/** The closing line, for people and for programs. */
function summary(results: readonly FileResult[]): string {
  const count = (of: (result: FileResult) => number): number =>
    results.reduce((sum, result) => sum + of(result), 0);
  return (
    `${count((result) => result.passed)} passed, ` +
    `${count((result) => result.failed)} failed, ` +
    `${count((result) => result.skipped.length)} skipped`
  );
}

function skips(results: readonly FileResult[]): string[] {
  return results.flatMap((result) => {
    const byReason = Map.groupBy(result.skipped, ({ reason }) => reason);
    return [...byReason].map(([reason, tests]) => `${result.file}: ${tests.length}, ${reason}`);
  });
}

function slowest(results: readonly FileResult[]): string[] {
  return results
    .flatMap(({ file, results: tests }) => tests.map((test) => ({ file, test })))
    .filter(({ test }) => !test.suite && test.durationMs > slowMs)
    .toSorted((a, b) => b.test.durationMs - a.test.durationMs)
    .slice(0, slowListed)
    .map(({ file, test }) => `${seconds(test.durationMs)}  ${file}: ${test.path.join(" > ")}`);
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ["", title, ...lines.map((line) => `  ${line}`)];
}

function indent(text: string, by: string): string {
  return text.replaceAll(/^/gm, by);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
