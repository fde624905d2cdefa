import { CompiledQuery, type Insertable } from "kysely";
import type { Engine } from "./engine.ts";
import type { Tables } from "./schema.ts";
import type { Tx } from "./store.ts";

type Column<T extends keyof Tables> = keyof Insertable<Tables[T]> & string;
type Row<T extends keyof Tables, C extends Column<T>> = Readonly<Pick<Insertable<Tables[T]>, C>>;

/** SQLite's rows in one statement: more is no faster. A server saves round trips with more. */
const rowsMax: Readonly<Record<Engine, number>> = { sqlite: 64, postgres: 500 };

/**
 * Inserts many rows, in their order. A query builder takes longer over such a statement than SQLite
 * does, so its text is put together here. `rest` follows the values; with `returning`, what it
 * returns is the result.
 */
export async function insertRows<T extends keyof Tables, C extends Column<T>, R = never>(
  { db, engine }: Pick<Tx, "db" | "engine">,
  table: T,
  columns: readonly C[],
  rows: readonly Row<T, C>[],
  rest = "",
): Promise<readonly R[]> {
  const returned: R[] = [];
  for (let from = 0; from < rows.length;) {
    const count = portion(engine, rows.length - from);
    const values = rows.slice(from, from + count).flatMap((row) => columns.map((it) => row[it]));
    const places = placeholders(engine, count, columns.length);
    const text = `insert into ${table} (${columns.join(", ")}) values ${places} ${rest}`;
    const result = await db.executeQuery<R>(CompiledQuery.raw(text, values));
    returned.push(...result.rows);
    from += count;
  }
  return returned;
}

/** On SQLite powers of two, so that there are few texts and each stays prepared. */
function portion(engine: Engine, count: number): number {
  const most = Math.min(count, rowsMax[engine]);
  return engine === "sqlite" ? 2 ** Math.floor(Math.log2(most)) : most;
}

function placeholders(engine: Engine, rows: number, columns: number): string {
  const listed = (count: number, item: (index: number) => string): string =>
    Array.from({ length: count }, (_, index) => item(index)).join(", ");
  if (engine === "sqlite") {
    const row = `(${listed(columns, () => "?")})`;
    return listed(rows, () => row);
  }
  return listed(rows, (row) => `(${listed(columns, (it) => `$${row * columns + it + 1}`)})`);
}
