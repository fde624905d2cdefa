import { EventEmitter } from "node:events";
import { Kysely, sql, type Dialect, type Transaction } from "kysely";
import { MayflyError } from "../domain/errors.ts";
import type { Engine } from "./engine.ts";
import { migrate } from "./migrate.ts";
import { listen, postgresDialect, serverNow } from "./postgres.ts";
import type { Tables } from "./schema.ts";
import { sqliteDialect } from "./sqlite.ts";
import { Deltas, flushDeltas } from "./tallies.ts";

/** Reading needs only this; a transaction is one too. */
export type Database = Kysely<Tables>;

/** One unit of writing: what it changes, when, and whom to wake once it is durable. */
export interface Tx {
  readonly db: Transaction<Tables>;
  /** The moment of the whole unit, so that all it writes agrees. */
  readonly now: number;
  readonly engine: Engine;
  /** `pool/<name>`, `job/<id>`, `runner/<name>`: told to listeners after the commit. */
  wake(topic: string): void;
  readonly deltas: Deltas;
}

type Unit = {
  readonly alone: boolean;
  readonly work: (tx: Tx) => Promise<unknown>;
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
};

interface Committed {
  readonly done: { readonly unit: Unit; readonly value: unknown }[];
  readonly topics: ReadonlySet<string>;
}

/** Units committed together at most: bounds what one slow commit delays. */
const groupMax = 200;
/** Units under way at once on a server: some of its connections stay free for reading. */
const apartMax = 6;
const deadlockTriesMax = 5;
/** Units waiting at most; beyond, writers are told to come back. */
const queueMax = 20_000;
const channel = "mayfly";

export type StoreAddress =
  | { readonly engine: "sqlite"; readonly folder: string | null }
  /** An embedded store on a connection of the caller's. */
  | { readonly engine: "sqlite"; readonly dialect: Dialect }
  | { readonly engine: "postgres"; readonly url: string };

/**
 * Where everything lives. Writes go through `write` and wake listeners after their commit. On SQLite
 * what arrives together is committed together (a commit costs a disk flush, so this is what makes
 * bursts cheap); a PostgreSQL server does the same for concurrent transactions. Reads use `db`.
 */
export class Store {
  readonly db: Database;
  readonly engine: Engine;
  readonly #now: () => number;
  /** How far the server's clock is ahead of ours. */
  #aheadMs = 0;
  readonly #events = new EventEmitter();
  readonly #queue: Unit[] = [];
  #draining: Promise<void> | undefined;
  #ear: { close: () => Promise<void> } | undefined;
  #trouble: string | null = null;

  private constructor(db: Database, engine: Engine, now: () => number) {
    this.db = db;
    this.engine = engine;
    this.#now = now;
    this.#events.setMaxListeners(0);
  }

  /** Opens and migrates. Throws `conflict` (the folder is held) or `unavailable`. */
  static async open(address: StoreAddress, now: () => number): Promise<Store> {
    if (address.engine === "sqlite") {
      const dialect = "dialect" in address ? address.dialect : sqliteDialect(address.folder);
      const db = new Kysely<Tables>({ dialect });
      return Store.#ready(new Store(db, "sqlite", now));
    }
    const { dialect } = postgresDialect(address.url);
    const store = await Store.#ready(new Store(new Kysely<Tables>({ dialect }), "postgres", now));
    store.#ear = listen(address.url, channel, (payload) => {
      for (const topic of payload.split("\n")) store.#tell(topic);
    });
    return store;
  }

  static async #ready(store: Store): Promise<Store> {
    try {
      await migrate(store.db as unknown as Kysely<unknown>, store.engine);
      return store;
    } catch (error) {
      await store.db.destroy();
      if (error instanceof MayflyError) throw error;
      throw new MayflyError("unavailable", `the store cannot be reached: ${String(error)}`, {
        hint: "Check the address under `store:` and that the server accepts connections.",
      });
    }
  }

  /** The time that everything is written under: the server's, once aligned; ours without one. */
  readonly now = (): number => this.#now() + this.#aheadMs;

  /**
   * Takes over the server's time, so that replicas whose hosts disagree agree. Changes as little as
   * the answer, which was made at some moment between question and answer, allows.
   */
  async alignClock(): Promise<void> {
    if (this.engine !== "postgres") return;
    const asked = this.#now();
    const there = await serverNow(this.db);
    if (there === null) return;
    this.#aheadMs = Math.min(Math.max(this.#aheadMs, there - this.#now()), there - asked);
  }

  /**
   * Runs `work` in a transaction and resolves once it is durable. Units that arrive while another
   * group commits share the next commit; one that throws is undone alone. `work` must only await
   * queries on its `tx.db`. Rejects with `too_many` when the queue is full. `alone`: a transaction
   * of its own, for work that must see the counts of everything before it.
   */
  write<T>(work: (tx: Tx) => Promise<T>, { alone = false } = {}): Promise<T> {
    if (this.#queue.length >= queueMax) {
      return Promise.reject(new MayflyError("too_many", "the store is behind; try again shortly"));
    }
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ work, alone, resolve, reject });
      this.#draining ??= this.#drain();
    });
  }

  /** Why the last units could not be written, though nothing was wrong with them: a full disk. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** Hears of every committed change by its topic. Returns how to stop. */
  onWake(listener: (topic: string) => void): () => void {
    this.#events.on("wake", listener);
    return () => this.#events.off("wake", listener);
  }

  /** Tells listeners of this process to look again, with nothing changed. */
  wake(topic: string): void {
    this.#tell(topic);
  }

  /** Ends after what was asked has been written. */
  async close(): Promise<void> {
    await this.#draining;
    await this.#ear?.close();
    await this.db.destroy();
  }

  async #drain(): Promise<void> {
    // Let everything that arrives in this turn of the loop join the first group.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#queue.length > 0) {
      if (this.engine === "postgres") {
        const units = this.#queue.splice(0, apartMax);
        await Promise.all(units.map((unit) => this.#commitApart(unit)));
      } else {
        await this.#commitTogether(this.#queue.splice(0, this.#groupSize()));
      }
    }
    this.#draining = undefined;
  }

  #groupSize(): number {
    const firstAlone = this.#queue.slice(0, groupMax).findIndex(({ alone }) => alone);
    return firstAlone === -1 ? groupMax : Math.max(1, firstAlone);
  }

  /**
   * A server flushes concurrent commits together by itself, and a group would hold the locks of all
   * its units at once: two replicas would wait for each other. One that the server gave up to end a
   * deadlock has done nothing, and is tried again.
   */
  async #commitApart(unit: Unit): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return this.#settle(await this.#transact([unit]));
      } catch (error) {
        if (tries < deadlockTriesMax && isDeadlock(error)) continue;
        return unit.reject(error);
      }
    }
  }

  async #commitTogether(units: readonly Unit[]): Promise<void> {
    try {
      this.#settle(await this.#transact(units));
    } catch (error) {
      // Nothing of the group is on disk; those already refused one by one stay refused.
      this.#trouble = troubleIn(error) ?? this.#trouble;
      for (const unit of units) unit.reject(error);
    }
  }

  #settle({ done, topics }: Committed): void {
    for (const { unit, value } of done) unit.resolve(value as never);
    for (const topic of topics) this.#tell(topic);
  }

  /** Several units in one transaction, each undone alone when it throws. */
  async #transact(units: readonly Unit[]): Promise<Committed> {
    const done: Committed["done"] = [];
    const topics = new Set<string>();
    let trouble: string | null = null;
    await this.db.transaction().execute(async (db) => {
      const deltas = new Deltas();
      const now = this.now();
      for (const unit of units) {
        const own = { deltas: new Deltas(), topics: new Set<string>() };
        const wake = (topic: string): unknown => own.topics.add(topic);
        const tx: Tx = { db, now, engine: this.engine, deltas: own.deltas, wake };
        const alone = units.length === 1;
        if (!alone) await sql`savepoint unit`.execute(db);
        try {
          const value = await unit.work(tx);
          if (!alone) await sql`release savepoint unit`.execute(db);
          done.push({ unit, value });
          deltas.merge(own.deltas);
          for (const topic of own.topics) topics.add(topic);
        } catch (error) {
          if (alone) throw error;
          trouble = troubleIn(error) ?? trouble;
          // A full disk may have undone the whole transaction: then the group has failed as one.
          const undone = sql`rollback to savepoint unit`.execute(db);
          await undone.catch(() => {
            throw error;
          });
          unit.reject(error);
        }
      }
      // A commit that changes nothing proves nothing.
      if (this.#trouble !== null) await tryToWrite(db, now);
      await flushDeltas({ db, engine: this.engine }, deltas, now);
      if (this.engine === "postgres") await notify(db, topics);
    });
    this.#trouble = trouble;
    return { done, topics };
  }

  #tell(topic: string): void {
    this.#events.emit("wake", topic);
  }
}

function troubleIn(error: unknown): string | null {
  return error instanceof MayflyError && error.code === "unavailable" ? error.message : null;
}

async function tryToWrite(db: Transaction<Tables>, now: number): Promise<void> {
  const tried = { key: "last-trouble", value: String(now) };
  await db
    .insertInto("settings")
    .values(tried)
    .onConflict((conflict) => conflict.column("key").doUpdateSet(tried))
    .execute();
}

/** PostgreSQL's `deadlock_detected` and `serialization_failure`. */
function isDeadlock(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === "40P01" || code === "40001";
}

/** PostgreSQL limits a payload to 8000 bytes; topics beyond that wait for the tick. */
async function notify(db: Transaction<Tables>, topics: ReadonlySet<string>): Promise<void> {
  let payload = "";
  for (const topic of topics) {
    if (payload.length + topic.length > 7000) break;
    payload += payload === "" ? topic : `\n${topic}`;
  }
  if (payload !== "") await sql`select pg_notify(${channel}, ${payload})`.execute(db);
}
