import { PostgresDialect, sql, type Kysely } from "kysely";
import pg from "pg";

/** int8 as a number: our times and counts stay below 2^53. */
const int8 = 20;

/** How long a query, a statement or a connection may take. A store that hangs must not hang us. */
const statementLimitMs = 30_000;
const connectLimitMs = 10_000;
/**
 * How long a transaction may wait for our next statement. It holds locks that other replicas wait
 * for, also on leases; ours ask one statement right after the other, unless we are stopped or cut
 * off. Well below the lease, so that a holder that stops does not hold up its successor.
 */
const idleLimitMs = 3_000;

/**
 * A connection that breaks, or whose answer did not come in time, is good for nothing more: what it
 * was asked may yet be done, and the next one's transaction would begin within it.
 */
class Connection extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    // One that breaks while it is lent out has no other listener, and would end the process.
    this.on("error", () => {});
  }

  // The driver's many forms of `query`: ours all give back a promise.
  override query(...words: unknown[]): never {
    const answer = (super.query as (...all: unknown[]) => unknown).apply(this, words);
    if (answer instanceof Promise) {
      answer.catch((error: unknown) => {
        // What the server refused has a code; the connection is as good as before.
        if ((error as { code?: unknown }).code === undefined) this.#destroy();
      });
    }
    return answer as never;
  }

  #destroy(): void {
    const { stream } = (this as unknown as { connection: { stream: { destroy(): void } } })
      .connection;
    stream.destroy();
  }
}

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
    idle_in_transaction_session_timeout: idleLimitMs,
    keepAlive: true,
    application_name: "mayfly",
    types,
    Client: Connection,
  });
  // An idle connection may be cut by the server at any time; the next query opens another.
  pool.on("error", () => {});
  return { dialect: new PostgresDialect({ pool }), pool };
}

/** The server's time, ms since the epoch; null when it does not say. */
export async function serverNow<T>(db: Kysely<T>): Promise<number | null> {
  const { rows } = await sql<{ now: number }>`
    select (extract(epoch from clock_timestamp()) * 1000)::bigint as now`.execute(db);
  return rows[0]?.now ?? null;
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
