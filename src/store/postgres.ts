import { PostgresDialect } from "kysely";
import pg from "pg";

/** int8 as a number: our times and counts stay below 2^53. */
const int8 = 20;

/** How long a query, a statement or a connection may take. A store that hangs must not hang us. */
const statementLimitMs = 30_000;
const connectLimitMs = 10_000;

/** A pool of connections for several replicas on one database, and its dialect. */
export function postgresDialect(url: string): { dialect: PostgresDialect; pool: pg.Pool } {
  const types = new pg.TypeOverrides();
  types.setTypeParser(int8, Number);
  const pool = new pg.Pool({
    connectionString: url,
    max: 10,
    connectionTimeoutMillis: connectLimitMs,
    statement_timeout: statementLimitMs,
    query_timeout: statementLimitMs,
    idle_in_transaction_session_timeout: statementLimitMs,
    keepAlive: true,
    application_name: "mayfly",
    types,
  });
  // An idle connection may be cut by the server at any time; the next query opens another.
  pool.on("error", () => {});
  return { dialect: new PostgresDialect({ pool }), pool };
}

/**
 * Listens for the other replicas' wake-ups on a connection of its own, reconnecting for ever until
 * closed. A lost notification only costs time: the slow tick is the truth.
 */
export function listen(
  url: string,
  channel: string,
  heard: (payload: string) => void,
): { close: () => Promise<void> } {
  let closed = false;
  let client: pg.Client | undefined;
  let again: NodeJS.Timeout | undefined;

  const connect = async (): Promise<void> => {
    if (closed) return;
    const next = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: connectLimitMs,
      keepAlive: true,
      application_name: "mayfly-wake",
    });
    client = next;
    next.on("notification", (message) => heard(message.payload ?? ""));
    next.on("error", () => void next.end().catch(() => {}));
    next.on("end", retry);
    try {
      await next.connect();
      await next.query(`listen ${pg.escapeIdentifier(channel)}`);
    } catch {
      void next.end().catch(() => {});
      retry();
    }
  };
  const retry = (): void => {
    if (closed || again !== undefined) return;
    again = setTimeout(() => {
      again = undefined;
      void connect();
    }, 1000);
    again.unref();
  };
  void connect();

  return {
    close: async () => {
      closed = true;
      clearTimeout(again);
      await client?.end().catch(() => {});
    },
  };
}
