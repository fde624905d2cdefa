import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { CompiledQuery, DatabaseConnection, Dialect, Driver, QueryResult } from "kysely";
import { embeddedDialect } from "../store/sqlite.ts";
import { never, type Life } from "./life.ts";

export type Row = Record<string, string | number | null>;

/** The disk: it outlives every manager that wrote to it. */
export class Disk {
  readonly db = new DatabaseSync(":memory:");
  readonly #statements = new Map<string, StatementSync>();

  /** The real store's dialect on this disk, for one life of the manager. */
  dialect(life: Life, fails: (step: number) => boolean): Dialect {
    const real = embeddedDialect(this.db, () => {});
    return {
      createAdapter: () => real.createAdapter(),
      createIntrospector: (db) => real.createIntrospector(db),
      createQueryCompiler: () => real.createQueryCompiler(),
      createDriver: () => new MortalDriver(real.createDriver(), life, fails),
    };
  }

  /** Looks at the disk from outside, past every manager. */
  rows(query: string, ...parameters: readonly (string | number)[]): Row[] {
    let statement = this.#statements.get(query);
    if (statement === undefined) {
      statement = this.db.prepare(query);
      this.#statements.set(query, statement);
    }
    return statement.all(...parameters) as Row[];
  }

  /** What a dead process leaves of an open transaction: nothing. */
  recover(): void {
    if (this.db.isTransaction) this.db.exec("rollback");
  }

  close(): void {
    this.db.close();
  }
}

class MortalDriver implements Driver {
  readonly #real: Driver;
  readonly #life: Life;
  readonly #fails: (step: number) => boolean;

  constructor(real: Driver, life: Life, fails: (step: number) => boolean) {
    this.#real = real;
    this.#life = life;
    this.#fails = fails;
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new MortalConnection(await this.#real.acquireConnection(), this.#life, this.#fails);
  }

  init = (): Promise<void> => this.#real.init();
  releaseConnection: Driver["releaseConnection"] = (it) => this.#real.releaseConnection(it);
  beginTransaction: Driver["beginTransaction"] = (it, how) => this.#real.beginTransaction(it, how);
  commitTransaction: Driver["commitTransaction"] = (it) => this.#real.commitTransaction(it);
  rollbackTransaction: Driver["rollbackTransaction"] = (it) => this.#real.rollbackTransaction(it);
  /** The disk outlives its users. */
  destroy = (): Promise<void> => Promise.resolve();
}

class MortalConnection implements DatabaseConnection {
  readonly #real: DatabaseConnection;
  readonly #life: Life;
  readonly #fails: (step: number) => boolean;

  constructor(real: DatabaseConnection, life: Life, fails: (step: number) => boolean) {
    this.#real = real;
    this.#life = life;
    this.#fails = fails;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    if (!this.#life.step()) return never();
    if (query.sql !== "rollback" && this.#fails(this.#life.steps)) {
      throw new Error("database or disk is full");
    }
    const result = await this.#real.executeQuery<R>(query);
    // Between a commit and what follows from it lies the most dangerous moment.
    if (query.sql === "commit" && !this.#life.step()) return never();
    return result;
  }

  streamQuery<R>(query: CompiledQuery, chunk: number): AsyncIterableIterator<QueryResult<R>> {
    return this.#real.streamQuery<R>(query, chunk);
  }
}
