import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import pg from "pg";
import type { Config } from "../config/config.ts";
import type { Check } from "../providers/provider.ts";

const connectMs = 5_000;

/** Whether the store answers; nothing is written, nor migrated. */
export function checkStore(config: Config): Promise<Check> {
  const { postgres, stateFolder } = config;
  return postgres === null ? checkSqlite(stateFolder) : checkPostgres(postgres.reveal());
}

async function checkSqlite(folder: string): Promise<Check> {
  const name = "store";
  const file = join(folder, "mayfly.db");
  if (!existsSync(file)) {
    return { name, ok: true, detail: "embedded; made at the first start", mend: null };
  }
  try {
    const db = new DatabaseSync(file, { readOnly: true, timeout: connectMs });
    db.prepare("select count(*) from settings").get();
    db.close();
    return { name, ok: true, detail: `embedded, ${file}`, mend: null };
  } catch (error) {
    const detail = `${file} cannot be read: ${String(error)}`;
    return { name, ok: false, detail, mend: "restore it, or move it away for an empty one" };
  }
}

async function checkPostgres(connectionString: string): Promise<Check> {
  const name = "store";
  const client = new pg.Client({
    connectionString,
    connectionTimeoutMillis: connectMs,
    query_timeout: connectMs,
  });
  // A server that goes away while we ask is told by the query.
  client.on("error", () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ version: string }>("show server_version");
    return { name, ok: true, detail: `PostgreSQL ${rows[0]?.version ?? ""}`, mend: null };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const mend = "check store.postgres, and that the server accepts connections from here";
    return { name, ok: false, detail: `PostgreSQL cannot be reached: ${reason}`, mend };
  } finally {
    await client.end().catch(() => {});
  }
}
