import { CompiledQuery, type Insertable } from "kysely";
import type { Engine } from "./engine.ts";
import type { Tables } from "./schema.ts";
import type { Tx } from "./store.ts";

type Column<T extends keyof Tables> = keyof Insertable<Tables[T]> & string;
type Row<T extends keyof Tables, C extends Column<T>> = Readonly<Pick<Insertable<Tables[T]>, C>>;

/**
 * Rows in one statement. On SQLite more is no faster, and each number has a text of its own, which all
 * stay prepared; a server saves round trips with more.
 */
const rowsMax: Readonly<Record<Engine, number>> = { sqlite: 32, postgres: 500 };

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
      const count = Math.min(rows.length - from, rowsMax[engine]);
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

function placeholders(engine: Engine, rows: number, columns: number): string {
  const listed = (count: number, item: (index: number) => string): string =>
    Array.from({ length: count }, (_, index) => item(index)).join(", ");
  if (engine === "sqlite") {
    const row = `(${listed(columns, () => "?")})`;
    return listed(rows, () => row);
  }
  return listed(rows, (row) => `(${listed(columns, (it) => `$${row * columns + it + 1}`)})`);
}
