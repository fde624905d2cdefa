import { CompiledQuery, type Insertable } from "kysely";
import type { Engine } from "./engine.ts";
import type { Tables } from "./schema.ts";
import type { Tx } from "./store.ts";

type Column<T extends keyof Tables> = keyof Insertable<Tables[T]> & string;
type Row<T extends keyof Tables, C extends Column<T>> = Readonly<Pick<Insertable<Tables[T]>, C>>;

/** SQLite's rows in one statement: more is no faster. A server saves round trips with more. */
const rowsMax: Readonly<Record<Engine, number>> = { sqlite: 64, postgres: 500 };

/**
 * Makes what inserts many rows, in their order. A query builder takes longer over such a statement
 * than SQLite does, so its text is put together here. `rest` follows the values; with `returning`,
 * what it returns is the result.
 */
export function inserter<T extends keyof Tables, C extends Column<T>, R = never>(
  table: T,
  columns: readonly C[],
  rest = "",
): (tx: Pick<Tx, "db" | "engine">, rows: readonly Row<T, C>[]) => Promise<readonly R[]> {
  const into = `insert into ${table} (${columns.join(", ")}) values`;
  const kept = new Map<number, string>();
  const statement = (engine: Engine, count: number): string => {
    const known = engine === "sqlite" ? kept.get(count) : undefined;
    if (known !== undefined) return known;
    const text = `${into} ${placeholders(engine, count, columns.length)} ${rest}`;
    if (engine === "sqlite") kept.set(count, text);
    return text;
  };
  return async ({ db, engine }, rows) => {
    const returned: R[] = [];
    for (let from = 0; from < rows.length;) {
      const count = portion(engine, rows.length - from);
      const values: unknown[] = [];
      for (const row of rows.slice(from, from + count)) {
        for (const column of columns) values.push(row[column]);
      }
      const query = CompiledQuery.raw(statement(engine, count), values);
      returned.push(...(await db.executeQuery<R>(query)).rows);
      from += count;
    }
    return returned;
  };
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
