import type { Compilable, CompiledQuery } from "kysely";
import type { Database } from "./store.ts";

/** Stands for a parameter while the text is made. */
class Place {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/**
 * A query of the hot path, whose text is made once: a query builder takes several times as long
 * over a small query as SQLite does. `build` is handed a stand-in for each parameter, to be used as
 * its value and for nothing else, and no query may hang on what the values are.
 */
export function prepared<P extends object, R>(
  build: (db: Database, asked: P) => Compilable<R>,
): (db: Database, given: P) => Promise<R[]> {
  const places = new Proxy({}, { get: (_, name) => new Place(String(name)) }) as P;
  // An adapter is one database's, and its transactions share it.
  const kept = new WeakMap<object, CompiledQuery<R>>();
  return async (db, given) => {
    const { adapter } = db.getExecutor();
    let query = kept.get(adapter);
    if (query === undefined) {
      query = build(db, places).compile();
      kept.set(adapter, query);
    }
    const parameters = query.parameters.map((it) =>
      it instanceof Place ? given[it.name as keyof P] : it,
    );
    return (await db.executeQuery<R>({ ...query, parameters })).rows;
  };
}
