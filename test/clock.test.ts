import assert from "node:assert/strict";
import { globSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test, type TestContext } from "node:test";
import { Manager } from "./manager.ts";
import { type Look, until as waitUntil } from "./until.ts";

/* The system's clock is set while a manager works: only what has truly passed may count. */

const [library] = globSync("/usr/lib/*/faketime/libfaketime.so.1");
const hour = 3600;
const day = 24 * hour;
const managers: Manager[] = [];
after(async () => {
  for (const manager of managers) {
    await manager.end("SIGKILL");
    manager.remove();
  }
});

class TimedManager {
  readonly manager: Manager;
  readonly #file: string;

  private constructor(manager: Manager, file: string) {
    this.manager = manager;
    this.#file = file;
  }

  static async open(t: TestContext): Promise<TimedManager | null> {
    if (library === undefined) {
      t.skip("no libfaketime (Debian's package faketime)");
      return null;
    }
    const settings = { environment: {} as Record<string, string> };
    // Short deadlines: an hour is far beyond all of them.
    const manager = await Manager.create(
      "providers: { box: { host: {} } }\n" +
        "pools: { small: { provider: box, size: 1cpu1gb, max: 2, idle: 20s, timeout: 10m } }\n",
      settings,
    );
    managers.push(manager);
    const file = join(manager.folder, "time");
    Object.assign(settings.environment, {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      DONT_FAKE_MONOTONIC: "1",
    });
    const timed = new TimedManager(manager, file);
    timed.set("+0");
    await manager.start();
    return timed;
  }

  /** `+7200`: so many seconds ahead of the true time; a date: it stands still there. */
  set(time: string): void {
    writeFileSync(this.#file, `${time}\n`);
  }

  setBy(seconds: number): void {
    this.set(seconds < 0 ? `${seconds}` : `+${seconds}`);
  }

  async submit(go: string): Promise<string> {
    const script = `echo on; until [ -e '${go}' ]; do sleep 0.1; done; echo off`;
    const body = { repository: "clock", source: { kind: "none" }, command: ["sh", "-c", script] };
    const response = await this.manager.ask("/v1/jobs", body);
    assert.equal(response.status, 201);
    return ((await response.json()) as { id: string }).id;
  }

  jobs(): { id: string; state: string; outcome: string | null }[] {
    return this.ask("select id, state, outcome from jobs order by id");
  }

  ask<Row>(query: string): Row[] {
    const path = join(this.manager.state, "mayfly.db");
    const db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 });
    try {
      return db
        .prepare(query)
        .all()
        .map((row) => ({ ...row })) as Row[];
    } finally {
      db.close();
    }
  }

  /** Several rounds of every pool, as its leases are renewed. */
  async rounds(): Promise<void> {
    const expiry = () =>
      this.ask<{ at: number }>(
        "select expires_at as at from leases where resource = 'pool/small'",
      )[0]?.at;
    for (let round = 0; round < 2; round++) {
      const before = expiry();
      await until("the lease is renewed", () => expiry() !== before);
    }
  }
}

const until = <T>(what: string, look: Look<T>): Promise<T> =>
  waitUntil(what, look, { told: () => managers.at(-1)?.said });

for (const [how, seconds] of [
  ["forwards by hours", 3 * hour],
  ["forwards by days", 40 * day],
  ["backwards by hours", -5 * hour],
] as const) {
  test(`a clock set ${how} ends no job early, nor holds one up`, async (t) => {
    const timed = await TimedManager.open(t);
    if (timed === null) return;
    const go = join(timed.manager.folder, "go");
    await timed.submit(go);
    await until("it runs", () => timed.jobs()[0]?.state === "started");
    timed.setBy(seconds);
    await timed.rounds();
    assert.equal(timed.jobs()[0]?.state, "started", timed.manager.said);
    // A new job gets its machine as ever, and its machine goes when it is over.
    await timed.submit(go);
    await until("both run", () => timed.jobs().every(({ state }) => state === "started"));

    // The next start sees the set clock, and a store stamped by the other.
    await timed.manager.end("SIGKILL");
    await timed.manager.start();
    await timed.manager.saidThat(/the system's clock was set meanwhile/);
    await timed.rounds();
    assert.deepEqual(
      timed.jobs().map(({ state }) => state),
      ["started", "started"],
    );
    writeFileSync(go, "");
    await until("they end", () => timed.jobs().every(({ outcome }) => outcome === "success"));
    const living = () => timed.ask("select name from runners where state <> 'gone'");
    await until("the machines are gone", () => living().length === 0);
    assert.deepEqual(timed.ask("select name from runners where cost_micro_usd < 0"), []);
    assert.equal(await timed.manager.end("SIGTERM"), 0);
  });
}

test("a clock that stands still holds nothing up", async (t) => {
  const timed = await TimedManager.open(t);
  if (timed === null) return;
  timed.set("2026-06-01 12:00:00");
  const go = join(timed.manager.folder, "go");
  await timed.submit(go);
  await until("it runs", () => timed.jobs()[0]?.state === "started");
  await timed.rounds();
  writeFileSync(go, "");
  await until("it ends", () => timed.jobs()[0]?.outcome === "success");
  const living = () => timed.ask("select name from runners where state <> 'gone'");
  await until("the machine is gone", () => living().length === 0);
});

test("a start without the time, in 1970, works, and follows the clock once it is set", async (t) => {
  const ahead = Math.floor(Date.now() / 1000);
  const other = await TimedManager.open(t);
  if (other === null) return;
  await other.manager.end("SIGTERM");
  // A state folder of its own, so that nothing in it is of a later time.
  other.setBy(-ahead + day);
  Object.assign(other.manager, { state: join(other.manager.folder, "fresh") });
  await other.manager.start();
  const go = join(other.manager.folder, "go");
  writeFileSync(go, "");
  await other.submit(go);
  await until("it ends", () => other.jobs()[0]?.outcome === "success");
  other.set("+0");
  await until("it follows", () => {
    const [row] = other.ask<{ value: string }>("select value from settings where key = 'moment'");
    return (JSON.parse(row?.value ?? "{}") as { now: number }).now > 1_000_000_000_000;
  });
  await other.submit(go);
  await until("that ends too", () => other.jobs().every(({ outcome }) => outcome === "success"));
});
