import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe } from "node:test";
import { Store } from "../src/store/store.ts";
import { postgresMissing, startPostgres, type TestPostgres } from "./postgres.ts";

/** A clock that tests move by hand. */
export class HandClock {
  at = 1_800_000_000_000;
  now = (): number => this.at;
  advance(ms: number): void {
    this.at += ms;
  }
}

export interface StoreUnderTest {
  /** A new, empty store; closed after the tests. */
  open(clock: HandClock): Promise<Store>;
  /** One more handle on the store last opened: another replica. Postgres only. */
  again: ((clock: HandClock) => Promise<Store>) | null;
}

/** Runs the same tests on SQLite in a folder and on a real PostgreSQL server. */
export function onBothEngines(name: string, tests: (under: StoreUnderTest) => void): void {
  describe(`${name} on SQLite`, () => {
    const opened: Store[] = [];
    const folders: string[] = [];
    tests({
      open: async (clock) => {
        const folder = mkdtempSync(join(tmpdir(), "mayfly-store-"));
        folders.push(folder);
        const store = await Store.open({ engine: "sqlite", folder }, clock.now);
        opened.push(store);
        return store;
      },
      again: null,
    });
    after(async () => {
      for (const store of opened) await store.close();
      for (const folder of folders) rmSync(folder, { recursive: true, force: true });
    });
  });

  describe(`${name} on PostgreSQL`, { skip: postgresMissing ?? false }, () => {
    const opened: Store[] = [];
    let server: Promise<TestPostgres> | undefined;
    let url = "";
    const openAt = async (address: string, clock: HandClock): Promise<Store> => {
      const store = await Store.open({ engine: "postgres", url: address }, clock.now);
      opened.push(store);
      return store;
    };
    tests({
      open: async (clock) => {
        server ??= startPostgres();
        // That a loaded machine keeps us from our next statement for seconds is no test's business.
        url = `${await (await server).newDatabase()}?idle_in_transaction_session_timeout=600000`;
        return openAt(url, clock);
      },
      again: (clock) => openAt(url, clock),
    });
    after(async () => {
      for (const store of opened) await store.close();
      await (await server)?.stop();
    });
  });
}
