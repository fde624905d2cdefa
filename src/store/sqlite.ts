import { closeSync, fdatasync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { promisify } from "node:util";
import {
  SqliteAdapter,
  SqliteDialect,
  SqliteDriver,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type LimitNode,
  type SqliteDatabase,
  type SqliteStatement,
} from "kysely";
import { MayflyError } from "../domain/errors.ts";

/** Prepared statements kept; a query's text is its key. Beyond this the oldest goes. */
const statementsKept = 200;

/**
 * Kysely migrates SQLite outside a transaction, so that a step that fails would stay half done.
 * SQLite itself can undo changes of tables, and there is one connection only.
 */
class EmbeddedDialect extends SqliteDialect {
  readonly #database: SqliteDatabase;
  readonly #flush: Flush | null;

  constructor(database: SqliteDatabase, flush: Flush | null) {
    super({ database });
    this.#database = database;
    this.#flush = flush;
  }

  override createAdapter(): SqliteAdapter {
    return new TransactionalAdapter();
  }

  override createQueryCompiler(): SqliteQueryCompiler {
    return new SteadyCompiler();
  }

  override createDriver(): SqliteDriver {
    const config = { database: this.#database };
    return this.#flush === null
      ? new SqliteDriver(config)
      : new FlushingDriver(config, this.#flush);
  }
}

/** Resolves once all that was committed is on disk. */
type Flush = () => Promise<void>;

/**
 * A commit that leaves its flush to us: SQLite's own would hold up the whole process while the disk
 * works. Kysely keeps the connection until we are done, so nobody reads what may yet be lost.
 */
class FlushingDriver extends SqliteDriver {
  readonly #flush: Flush;
  #lost: Error | null = null;

  constructor(config: { readonly database: SqliteDatabase }, flush: Flush) {
    super(config);
    this.#flush = flush;
  }

  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    // Linux forgets what it could not write: a later flush that succeeds says nothing of it.
    if (this.#lost !== null) throw this.#lost;
    await super.beginTransaction(connection);
  }

  override async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await super.commitTransaction(connection);
    try {
      await this.#flush();
    } catch (error) {
      this.#lost = new MayflyError(
        "unavailable",
        `the store cannot be used: the disk failed (${String(error)})`,
        { hint: "Check the disk of the state folder, then start Mayfly again." },
      );
      throw this.#lost;
    }
  }
}

class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/**
 * SQLite plans by the number that a limit is bound to, so each time one is bound, it compiles the
 * statement again; which takes longer than the hot path's questions do. It does not look into a sum.
 */
class SteadyCompiler extends SqliteQueryCompiler {
  protected override visitLimit(node: LimitNode): void {
    super.visitLimit(node);
    this.append(" + 0");
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
    const statement = this.#compile(text);
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

  #compile(text: string): SqliteStatement {
    // A full disk makes SQLite undo a whole transaction by itself; then there is nothing to undo.
    const isNeeded = text === "rollback" ? (): boolean => this.#db.isTransaction : undefined;
    return inOurWords(() => new NodeStatement(this.#db.prepare(text), isNeeded));
  }
}

class NodeStatement implements SqliteStatement {
  readonly reader: boolean;
  readonly #statement: StatementSync;
  readonly #isNeeded: () => boolean;

  constructor(statement: StatementSync, isNeeded: () => boolean = () => true) {
    this.#statement = statement;
    this.#isNeeded = isNeeded;
    this.reader = statement.columns().length > 0;
  }

  all(parameters: readonly unknown[]): unknown[] {
    return inOurWords(() => this.#statement.all(...(parameters as SQLInputValue[])));
  }

  run(parameters: readonly unknown[]): {
    changes: number | bigint;
    lastInsertRowid: number | bigint;
  } {
    if (!this.#isNeeded()) return { changes: 0, lastInsertRowid: 0 };
    return inOurWords(() => this.#statement.run(...(parameters as SQLInputValue[])));
  }

  iterate(parameters: readonly unknown[]): IterableIterator<unknown> {
    return this.#statement.iterate(...(parameters as SQLInputValue[]));
  }
}

/**
 * Kysely's dialect on an open database; `release` is called once it is closed, `flush` after each
 * commit when SQLite does not do that itself.
 */
export function embeddedDialect(
  db: DatabaseSync,
  release: () => void,
  flush: Flush | null = null,
): SqliteDialect {
  return new EmbeddedDialect(new NodeSqlite(db, release), flush);
}

/** SQLite's primary result codes for what is no fault of a query: https://sqlite.org/rescode.html */
const troubles: Readonly<Record<number, readonly [what: string, hint: string]>> = {
  5: ["another program keeps it locked", "Find it with `fuser mayfly.db`, and end it."],
  8: ["it cannot be written to", "Check that the folder is where it was, writable and ours."],
  10: ["the disk failed", "Check the disk of the state folder, and that it is not full."],
  11: ["it is damaged", "Stop Mayfly and restore the state folder from a backup."],
  13: ["the disk is full", "Make room on the disk of the state folder; it goes on by itself then."],
  14: ["it cannot be opened", "Check that the folder is there, and how many files may be open."],
  26: ["it is no database of ours", "Stop Mayfly and restore the state folder from a backup."],
};

/** Turns the trouble of a disk into `unavailable`; what else a query throws is our own mistake. */
function inOurWords<T>(query: () => T): T {
  try {
    return query();
  } catch (error) {
    const code = (error as { errcode?: unknown } | null)?.errcode;
    const [what, hint] = (typeof code === "number" ? troubles[code & 0xff] : undefined) ?? [];
    if (what === undefined || hint === undefined) throw error;
    const detail = error instanceof Error ? error.message : String(error);
    throw new MayflyError("unavailable", `the store cannot be used: ${what} (${detail})`, { hint });
  }
}

const flushFile = promisify(fdatasync);

/**
 * Opens the embedded store in `folder` (made when missing, for this user only), or in memory when
 * null. Every commit is on disk before it returns (write-ahead log, flushed each time). Throws `conflict`
 * when another process holds the folder.
 */
export function sqliteDialect(folder: string | null): SqliteDialect {
  if (folder === null) return embeddedDialect(new DatabaseSync(":memory:"), () => {});
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const release = holdFolder(folder);
  try {
    // Patient from the first statement on: a backup or `doctor` may be reading just now.
    const db = new DatabaseSync(join(folder, "mayfly.db"), { timeout: 5000 });
    db.exec(`
      pragma journal_mode = wal;
      pragma synchronous = normal;
      pragma temp_store = memory;
      pragma cache_size = -16000;
      pragma wal_autocheckpoint = 4000;
      pragma journal_size_limit = 67108864;
      pragma schema_version;
    `);
    // So set, SQLite flushes the log only before it moves it into the database: each commit is ours
    // to flush. The log is there since we read, and stays one file while the database is open.
    const log = openSync(join(folder, "mayfly.db-wal"), "r");
    const close = (): void => {
      closeSync(log);
      release();
    };
    return embeddedDialect(db, close, () => flushFile(log));
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
  try {
    writeFileSync(noteFile, `${process.pid}\n`, { mode: 0o600 });
  } catch {
    // Only a word for people: on a full disk there is none.
  }
  return () => lock.close();
}

function holder(noteFile: string): string {
  try {
    return readFileSync(noteFile, "utf8").trim() || "unknown";
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
