import assert from "node:assert/strict";
import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { Manager, type ManagerSettings } from "./manager.ts";
import { until } from "./until.ts";

/* What is left of a state folder after an accident, and what a process may lack. */

const managers: Manager[] = [];
after(async () => {
  for (const manager of managers) {
    await manager.end("SIGKILL");
    manager.remove();
  }
});

async function newManager(settings: ManagerSettings = {}): Promise<Manager> {
  const manager = await Manager.create(
    "providers: { box: { host: {} } }\n" +
      "pools: { small: { provider: box, size: 1cpu1gb, max: 2, idle: 5s } }\n",
    settings,
  );
  managers.push(manager);
  await manager.start();
  return manager;
}

async function submit(manager: Manager): Promise<string> {
  const body = { repository: "damage", source: { kind: "none" }, command: ["true"] };
  const response = await manager.ask("/v1/jobs", body);
  assert.equal(response.status, 201);
  return ((await response.json()) as { id: string }).id;
}

/** Asks until it is taken: a connection may be refused for want of a file. */
function submitted(manager: Manager): Promise<string> {
  return until("it is taken", () =>
    submit(manager).catch((error: unknown) => {
      if (error instanceof TypeError) return null;
      throw error;
    }),
  );
}

async function succeeded(manager: Manager, id: string): Promise<void> {
  const look = async (): Promise<string | null> =>
    ((await (await manager.ask(`/v1/jobs/${id}`)).json()) as { outcome: string | null }).outcome;
  assert.equal(await until("its end", look, { told: () => manager.said }), "success");
}

/** It does not start, says why in these words, and takes it for no bug of its own. */
async function refusesToStart(manager: Manager, pattern: RegExp): Promise<void> {
  await assert.rejects(manager.start(), pattern);
  assert.doesNotMatch(manager.said, /bug in Mayfly/);
}

test("a store copied with its log but without the log's index has all of it", async () => {
  const manager = await newManager();
  const id = await submit(manager);
  await manager.end("SIGKILL");
  rmSync(join(manager.state, "mayfly.db-shm"), { force: true });
  await manager.start();
  await succeeded(manager, id);
});

test("a store that lost its end, or a token its text, is told as what it is", async () => {
  const manager = await newManager();
  await succeeded(manager, await submit(manager));
  assert.equal(await manager.end("SIGTERM"), 0);
  const token = join(manager.state, "token");
  writeFileSync(token, "");
  await refusesToStart(manager, /the token is no word[^]*Remove the file/);
  rmSync(token);
  writeFileSync(join(manager.state, "holder"), "");
  await manager.start();
  assert.equal(await manager.end("SIGTERM"), 0);
  truncateSync(join(manager.state, "mayfly.db"), 5000);
  await refusesToStart(manager, /cannot be opened: database disk image is malformed/);
});

test("a process that may open few files refuses what it cannot do, and lives on", async () => {
  const manager = await newManager({ around: ["sh", "-c", 'ulimit -n 48; exec "$@"', "sh"] });
  // A start of a machine opens several, and may fail: what was taken stays taken.
  const asked = await Promise.allSettled(
    Array.from({ length: 40 }, () => fetch(`${manager.url}/v1/jobs?limit=1`)),
  );
  assert.ok(asked.some(({ status }) => status === "fulfilled"));
  const id = await submitted(manager);
  await manager.saidThat(/EMFILE|box made it/);
  // A connection may still be refused for want of a file.
  await until("it is ready", () => {
    assert.ok(manager.isRunning, manager.said);
    return manager.isReady();
  });
  assert.equal(await manager.end("SIGTERM"), 0, manager.said);
  Object.assign(manager.settings, { around: [] });
  await manager.start();
  const response = await manager.ask(`/v1/jobs/${id}`);
  assert.equal(response.status, 200, "the job is still known");
});
