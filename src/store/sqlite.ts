import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { SqliteAdapter, SqliteDialect, type SqliteDatabase, type SqliteStatement } from "kysely";
import { MayflyError } from "../domain/errors.ts";

/** Prepared statements kept; a query's text is its key. Beyond this the oldest goes. */
const statementsKept = 200;

/**
 * Kysely migrates SQLite outside a transaction, so that a step that fails would stay half done.
 * SQLite itself can undo changes of tables, and there is one connection only.
 */
class EmbeddedDialect extends SqliteDialect {
  override createAdapter(): SqliteAdapter {
    return new TransactionalAdapter();
  }
}

class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** node:sqlite in the shape that Kysely's own SQLite dialect expects of its driver. */
class NodeSqlite implements SqliteDatabase {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, SqliteStatement>();
  readonly #release: () => void;

  constructor(db: DatabaseSync, release: () => void) {
    this.#db = db;
    this.#release = release;
  }

  prepare(text: string): SqliteStatement {
    const known = this.#statements.get(text);
    if (known !== undefined) return known;
    const statement = new NodeStatement(this.#db.prepare(text));
    this.#statements.set(text, statement);
    if (this.#statements.size > statementsKept) {
      const oldest = this.#statements.keys().next();
      if (oldest.done !== true) this.#statements.delete(oldest.value);
    }
    return statement;
  }

  close(): void {
    this.#statements.clear();
    this.#db.close();
    this.#release();
  }
}

class NodeStatement implements SqliteStatement {
  readonly reader: boolean;
  readonly #statement: StatementSync;

  constructor(statement: StatementSync) {
    this.#statement = statement;
    this.reader = statement.columns().length > 0;
  }

  all(parameters: readonly unknown[]): unknown[] {
    return this.#statement.all(...(parameters as SQLInputValue[]));
  }

  run(parameters: readonly unknown[]): {
    changes: number | bigint;
    lastInsertRowid: number | bigint;
  } {
    return this.#statement.run(...(parameters as SQLInputValue[]));
  }

  iterate(parameters: readonly unknown[]): IterableIterator<unknown> {
    return this.#statement.iterate(...(parameters as SQLInputValue[]));
  }
}

/** Kysely's dialect on an open database; `release` is called once it is closed. */
export function embeddedDialect(db: DatabaseSync, release: () => void): SqliteDialect {
  return new EmbeddedDialect({ database: new NodeSqlite(db, release) });
}

/**
 * Opens the embedded store in `folder` (made when missing, for this user only), or in memory when
 * null. Every commit is on disk before it returns (write-ahead log, full sync). Throws `conflict`
 * when another process holds the folder.
 */
export function sqliteDialect(folder: string | null): SqliteDialect {
  if (folder === null) return embeddedDialect(new DatabaseSync(":memory:"), () => {});
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const release = holdFolder(folder);
  try {
    const db = new DatabaseSync(join(folder, "mayfly.db"));
    db.exec(`
      pragma journal_mode = wal;
      pragma synchronous = full;
      pragma busy_timeout = 5000;
      pragma cache_size = -16000;
      pragma wal_autocheckpoint = 4000;
      pragma journal_size_limit = 67108864;
    `);
    return embeddedDialect(db, release);
  } catch (error) {
    release();
    throw unreadable(folder, error);
  }
}

/**
 * Keeps a second process out: an open exclusive transaction on a database of its own. The kernel
 * drops it with the process, however that dies, and no process id can mislead us.
 */
function holdFolder(folder: string): () => void {
  const noteFile = join(folder, "holder");
  let lock: DatabaseSync;
  try {
    lock = new DatabaseSync(join(folder, "lock.db"));
  } catch (error) {
    throw unreadable(folder, error);
  }
  try {
    lock.exec("pragma busy_timeout = 0; begin exclusive");
  } catch (error) {
    lock.close();
    if (!/locked|busy/i.test(String(error))) throw unreadable(folder, error);
    throw new MayflyError(
      "conflict",
      `another Mayfly (process ${holder(noteFile)}) runs on ${folder}`,
      {
        where: folder,
        hint: "Stop it first, or give this one a folder of its own with --state.",
      },
    );
  }
  writeFileSync(noteFile, `${process.pid}\n`, { mode: 0o600 });
  return () => lock.close();
}

function holder(noteFile: string): string {
  try {
    return readFileSync(noteFile, "utf8").trim();
  } catch {
    return "unknown";
  }
}

function unreadable(folder: string, error: unknown): MayflyError {
  const detail = error instanceof Error ? error.message : String(error);
  return new MayflyError("unavailable", `the state in ${folder} cannot be opened: ${detail}`, {
    where: folder,
    hint: "Check that the folder is writable, the disk is not full and the files are Mayfly's own.",
  });
}
