import { MayflyError } from "../../domain/errors.ts";
import { listed, nearest, quote } from "../../domain/words.ts";

/*
 * The columns of a trace. Each may go by the names that exports of forges give it.
 */

const names = {
  queued_at: ["queued_at", "queued", "queued_s", "created_at", "arrival", "arrival_s", "start_s"],
  duration_s: ["duration_s", "duration", "duration_seconds", "run_s"],
  started_at: ["started_at", "started"],
  ended_at: ["ended_at", "ended", "completed_at", "finished_at"],
  labels: ["labels", "runs_on", "tags"],
  trust: ["trust"],
  conclusion: ["conclusion", "outcome", "result"],
} as const;

export type Column = keyof typeof names;

/** What a trace may also hold: known, so that it is no slip of the pen, and not read. */
const passedOver = [
  "name",
  "job",
  "workflow",
  "repository",
  "status",
  "id",
  "url",
  "pool",
  "runner",
];

/** Where the columns are in a row, and what this file calls them. */
export interface Columns {
  readonly at: Readonly<Partial<Record<Column, number>>>;
  readonly title: (column: Column) => string;
  readonly count: number;
}

/** Finds the columns in a header. Throws `invalid` for a header that tells too little. */
export function readHeader(header: readonly string[], file: string): Columns {
  const titles = header.map((title) => title.trim().toLowerCase().replaceAll(/[ -]/g, "_"));
  const at: Partial<Record<Column, number>> = {};
  for (const column of Object.keys(names) as Column[]) {
    const index = titles.findIndex((title) => (names[column] as readonly string[]).includes(title));
    if (index !== -1) at[column] = index;
  }
  const where = `${file}:1`;
  const known = Object.values(names).flat();
  const lacking = (what: string): MayflyError => {
    const strange = titles.filter((title) => !known.includes(title as (typeof known)[number]));
    const meant = strange
      .filter((title) => !passedOver.includes(title))
      .map((title) => [title, nearest(title, known)] as const)
      .find(([, near]) => near !== null);
    const hint =
      meant === undefined
        ? `The first line must name the columns; this one names ${listed(titles.map(quote), 8)}.`
        : `Is ${quote(meant[0])} meant to be ${quote(meant[1]!)}?`;
    return new MayflyError("invalid", what, { where, hint });
  };
  if (at.queued_at === undefined) {
    throw lacking(`there is no column queued_at (or ${listed(names.queued_at.slice(3), 9)})`);
  }
  if (at.duration_s === undefined && (at.started_at === undefined || at.ended_at === undefined)) {
    throw lacking("there is neither a column duration_s nor the two started_at and ended_at");
  }
  const title = (column: Column): string => header[at[column] ?? -1]?.trim() ?? column;
  return { at, title, count: header.length };
}

/** A moment as a trace writes it, ms since the epoch; null: nobody could say. */
export function readMoment(text: string): number | null {
  if (/^\d+(\.\d+)?$/.test(text)) {
    const number = Number(text);
    // Seconds, or, as far from 1970 as that would be the year 5138, milliseconds.
    return number < 1e11 ? Math.round(number * 1000) : Math.round(number);
  }
  const [, day, time, zone] = moment.exec(text) ?? [];
  if (day === undefined) return null;
  const at = Date.parse(`${day}T${time}${zone === undefined || zone === "UTC" ? "Z" : zone}`);
  return Number.isNaN(at) ? null : at;
}

/** ISO 8601, a blank for the T as databases write it; without a zone it is UTC. */
const moment =
  /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(?:\s?(Z|UTC|[+-]\d\d:?\d\d))?$/;

/** Labels as a JSON list, or parted by commas, semicolons, bars or blanks. */
export function readLabels(text: string): string[] | null {
  const trimmed = text.trim();
  if (!trimmed.startsWith("[")) return trimmed.split(/[,;|\s]+/).filter((label) => label !== "");
  try {
    const labels: unknown = JSON.parse(trimmed);
    const isList = Array.isArray(labels) && labels.every((label) => typeof label === "string");
    return isList ? labels : null;
  } catch {
    return null;
  }
}
