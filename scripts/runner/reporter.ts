import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

/** What happened in a test file, one JSON line each. */
export type Report =
  | { readonly kind: "result"; readonly result: Result }
  | { readonly kind: "note"; readonly text: string }
  /** The file came to its regular end. */
  | { readonly kind: "end" };

export interface Result {
  /** The names of its suites and parents, then its own. */
  readonly path: readonly string[];
  readonly suite: boolean;
  readonly durationMs: number;
  /** The reason, where one was given. */
  readonly skipped: string | null;
  readonly todo: string | null;
  /** Null: it passed. `children`: it failed only because one below it did. */
  readonly failure: "children" | { readonly text: string } | null;
}

/** Node's reporter interface: the events of one process in, text out. */
export default async function* reporter(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  // Names come first for parents, results first for children: starts tell who is above whom.
  const above: string[] = [];
  for await (const event of events) {
    const report = toReport(event, above);
    if (report !== null) yield `${JSON.stringify(report)}\n`;
  }
}

function toReport(event: TestEvent, above: string[]): Report | null {
  switch (event.type) {
    case "test:start":
      above.length = event.data.nesting;
      above.push(event.data.name);
      return null;
    case "test:pass":
    case "test:fail":
      return { kind: "result", result: toResult(event, above) };
    case "test:diagnostic":
      // Errors that no test could be blamed for; the rest are counts, which we make ourselves.
      return event.data.message.startsWith("Error")
        ? { kind: "note", text: event.data.message }
        : null;
    case "test:summary":
      return { kind: "end" };
    default:
      return null;
  }
}

function toResult(
  event: Extract<TestEvent, { type: "test:pass" | "test:fail" }>,
  above: readonly string[],
): Result {
  const { data } = event;
  return {
    path: [...above.slice(0, data.nesting), data.name],
    suite: data.details.type === "suite",
    durationMs: data.details.duration_ms,
    skipped: reason(data.skip),
    todo: reason(data.todo),
    failure: event.type === "test:pass" ? null : toFailure(event.data.details.error),
  };
}

function reason(given: string | boolean | undefined): string | null {
  if (given === undefined || given === false) return null;
  return given === true || given === "" ? "no reason given" : given;
}

function toFailure(error: Error & { failureType?: string }): "children" | { text: string } {
  if (error.failureType === "subtestsFailed") return "children";
  const cause = error.cause ?? error;
  // An assertion's stack holds its message with the difference; inspecting it would repeat both.
  const text =
    cause instanceof Error && cause.name === "AssertionError" && cause.stack !== undefined
      ? cause.stack
      : typeof cause === "string"
        ? cause
        : inspect(cause, { depth: 6 });
  const lines = text.split("\n").filter((line) => !/^\s+at (?:.*\()?node:/.test(line));
  return { text: lines.join("\n") };
}
