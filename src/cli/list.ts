import { MayflyError } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";
import { Client } from "./client.ts";
import { exit } from "./exit.ts";
import type { ClientFlags } from "./program.ts";
import { table, type Column } from "./table.ts";
import { clean, columnsOf, note, painter, print } from "./terminal.ts";

export interface ListFlags extends ClientFlags {
  readonly pool?: string;
  readonly limit?: string;
}

interface List<T> {
  /** What the API calls them: its path and the answer's key. */
  readonly what: "jobs" | "runners" | "machines";
  readonly columns: (now: number) => readonly Column<T>[];
  /** What is said instead of an empty table. */
  readonly none: string;
}

const shownByDefault = 30;

/** Shows a page of a list, newest first; with `--json` the API's own answer. */
export async function showList<T>(
  { what, columns, none }: List<T>,
  flags: ListFlags,
  filters: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const client = new Client(flags, process.env);
  const query = new URLSearchParams({ limit: String(readLimit(flags.limit)) });
  for (const [name, value] of Object.entries({ ...filters, pool: flags.pool })) {
    if (value !== undefined) query.set(name, value);
  }
  const answer = await client.get<Record<typeof what, T[]> & { next: string | null }>(
    `/v1/${what}?${query.toString()}`,
  );
  if (flags.json) {
    await print(JSON.stringify(answer));
    return exit.ok;
  }
  const rows = answer[what];
  if (rows.length === 0) {
    note(flags.pool === undefined ? none : `No ${what} like that in pool ${clean(flags.pool)}.`);
    return exit.ok;
  }
  const [width, paint] = [columnsOf(process.stdout), painter(process.stdout)];
  for (const line of table(rows, columns(Date.now()), width, paint)) await print(line);
  if (answer.next !== null) note(painter(process.stderr)("dim", "and older ones: see --limit"));
  return exit.ok;
}

function readLimit(text: string | undefined): number {
  if (text === undefined) return shownByDefault;
  const limit = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= 500) return limit;
  throw new MayflyError("invalid", `${quote(text)} is no number from 1 to 500`, {
    where: "--limit",
  });
}
