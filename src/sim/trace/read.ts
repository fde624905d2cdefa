import { MayflyError } from "../../domain/errors.ts";
import { trustClasses, type TrustClass } from "../../domain/trust.ts";
import { quote } from "../../domain/words.ts";
import { readHeader, readLabels, readMoment, type Column, type Columns } from "./columns.ts";
import { CsvReader } from "./csv.ts";
import { TraceBuilder, type DemandKind, type Trace } from "./trace.ts";

export interface ReadOptions {
  /** What errors call it. */
  readonly file: string;
  /** Rows that make no sense are left out and counted; else the first ends the reading. */
  readonly skipsBadRows?: boolean;
  /** Every job asks for these instead of its own. */
  readonly labels?: readonly string[];
}

const jobsMax = 20_000_000;
const longestDurationMs = 100 * 24 * 3600 * 1000;
const noRun = "never ran";
const badRow = "made no sense";

/**
 * Reads a trace as it comes, text in pieces of any size. Throws `invalid` with the file, the line
 * and the column at fault.
 */
export async function readTrace(
  chunks: AsyncIterable<string> | Iterable<string>,
  options: ReadOptions,
): Promise<Trace> {
  const { file } = options;
  const builder = new TraceBuilder();
  let rows: Rows | null = null;
  const reader = new CsvReader(file, (fields, line) => {
    if (rows === null) rows = new Rows(readHeader(fields, file), builder, options);
    else rows.add(fields, line);
  });
  for await (const chunk of chunks) reader.push(chunk);
  reader.end();
  if (rows === null) {
    throw new MayflyError("invalid", "the trace is empty", {
      where: file,
      hint: "Its first line names the columns: queued_at,duration_s,labels.",
    });
  }
  if (builder.count === 0) {
    throw new MayflyError("invalid", "the trace has no job that ran", {
      where: file,
      hint: "Each further line is a job: 2026-03-02T09:14:00Z,312,linux",
    });
  }
  return builder.build();
}

/** Turns rows into jobs. */
class Rows {
  readonly #columns: Columns;
  readonly #builder: TraceBuilder;
  readonly #options: ReadOptions;

  constructor(columns: Columns, builder: TraceBuilder, options: ReadOptions) {
    this.#columns = columns;
    this.#builder = builder;
    this.#options = options;
  }

  add(fields: readonly string[], line: number): void {
    try {
      this.#add(fields, line);
    } catch (error) {
      if (this.#options.skipsBadRows !== true || !(error instanceof MayflyError)) throw error;
      this.#builder.leaveOut(badRow);
    }
  }

  #add(fields: readonly string[], line: number): void {
    const { count, at } = this.#columns;
    if (fields.length !== count) {
      throw new MayflyError("invalid", `the row has ${fields.length} fields, the header ${count}`, {
        where: `${this.#options.file}:${line}`,
        hint: `A comma within a field needs quotes around the field. ${skipHint}`,
      });
    }
    if (at.conclusion !== undefined && fields[at.conclusion]!.trim().toLowerCase() === "skipped") {
      this.#builder.leaveOut(noRun);
      return;
    }
    const queuedAt = this.#moment(fields, "queued_at", line);
    if (queuedAt === null) throw this.#fault(fields, "queued_at", line, "is empty", momentHint);
    const durationMs = this.#duration(fields, line);
    if (durationMs === null) {
      this.#builder.leaveOut(noRun);
      return;
    }
    if (this.#builder.count === jobsMax) {
      throw new MayflyError("too_large", `the trace has more than ${jobsMax} jobs`, {
        where: `${this.#options.file}:${line}`,
        hint: "Give a shorter span of time.",
      });
    }
    this.#builder.add(queuedAt, durationMs, this.#kind(fields, line));
  }

  #moment(fields: readonly string[], column: Column, line: number): number | null {
    const text = fields[this.#columns.at[column]!]!.trim();
    if (isNothing(text)) return null;
    const at = readMoment(text);
    if (at === null) throw this.#fault(fields, column, line, "is no time", momentHint);
    return at;
  }

  /** Null: it never ran. */
  #duration(fields: readonly string[], line: number): number | null {
    const { at } = this.#columns;
    if (at.duration_s !== undefined) {
      const text = fields[at.duration_s]!.trim();
      if (isNothing(text)) return null;
      const seconds = /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
      if (Number.isNaN(seconds)) {
        const hint = `Write seconds, such as 312 or 4.5. ${skipHint}`;
        throw this.#fault(fields, "duration_s", line, "is no number of seconds", hint);
      }
      return this.#checked(Math.round(seconds * 1000), fields, "duration_s", line);
    }
    const started = this.#moment(fields, "started_at", line);
    const ended = this.#moment(fields, "ended_at", line);
    if (started === null || ended === null) return null;
    return this.#checked(ended - started, fields, "ended_at", line);
  }

  #checked(ms: number, fields: readonly string[], column: Column, line: number): number {
    if (ms < 0) {
      const what = column === "ended_at" ? "is before its start" : "is below zero";
      throw this.#fault(fields, column, line, what, skipHint);
    }
    if (ms <= longestDurationMs) return ms;
    throw this.#fault(fields, column, line, "makes a job longer than 100 days", skipHint);
  }

  #kind(fields: readonly string[], line: number): number {
    const { at } = this.#columns;
    const ownLabels = this.#options.labels === undefined ? at.labels : undefined;
    const labelsText = ownLabels === undefined ? "" : fields[ownLabels]!;
    const trustText = at.trust === undefined ? "" : fields[at.trust]!.trim().toLowerCase();
    return this.#builder.kind(`${trustText}/${labelsText}`, (): DemandKind => {
      const trust = trustText === "" ? "trusted" : trustClasses.find((one) => one === trustText);
      if (trust === undefined) {
        const hint = `Write one of ${trustClasses.join(", ")}, or leave it empty for trusted.`;
        throw this.#fault(fields, "trust", line, "is no trust class", hint);
      }
      return { trust: trust satisfies TrustClass, labels: this.#labels(fields, ownLabels, line) };
    });
  }

  #labels(
    fields: readonly string[],
    own: number | undefined,
    line: number,
  ): readonly string[] | null {
    if (own === undefined) return this.#options.labels ?? null;
    const labels = readLabels(fields[own]!);
    if (labels !== null) return labels;
    const hint = 'Write them as linux;x64 or as a JSON list of strings: ["linux","x64"].';
    throw this.#fault(fields, "labels", line, "is no list of labels", hint);
  }

  #fault(
    fields: readonly string[],
    column: Column,
    line: number,
    what: string,
    hint: string,
  ): MayflyError {
    const { at, title } = this.#columns;
    const text = `${title(column)} ${quote(fields[at[column]!]!)} ${what}`;
    return new MayflyError("invalid", text, { where: `${this.#options.file}:${line}`, hint });
  }
}

const skipHint = "Mend the row, or leave such rows out with --skip-bad-rows.";
const momentHint = `Write 2026-03-02T09:14:00Z, or seconds. ${skipHint}`;

function isNothing(text: string): boolean {
  return text === "" || text === "null" || text === "NULL" || text === "\\N";
}
