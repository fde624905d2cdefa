import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { until } from "../src/providers/conformance-world.ts";
import { processesWith } from "../src/providers/processes.ts";
import { markerOf } from "../src/providers/overseer.ts";
import { imageForTests } from "../src/providers/qemu/testing.ts";
import { Manager } from "./manager.ts";

/* A whole Mayfly with machines of QEMU, killed while they run. */

const image = await imageForTests();
const skip = typeof image === "string" ? image : false;
/** An emulated machine on a busy host, and two rounds of the manager's looking after its machines. */
const withinMs = 110_000;
const timeout = 500_000;

const managers: Manager[] = [];
after(async () => {
  for (const manager of managers) {
    await manager.end("SIGKILL");
    for (const name of machines(manager)) {
      for (const pid of await processesOf(manager, name)) process.kill(pid, "SIGKILL");
    }
    manager.remove();
  }
});

async function newManager(options: object): Promise<Manager> {
  const folder = typeof image === "string" ? "" : image.folder;
  // The host may be as busy as it likes; a template would boot beside the one machine of each.
  const given = { image: folder, snapshot: false, reserveMemoryMb: 0, cpuPressureMax: 100 };
  const box = JSON.stringify({ qemu: { ...given, ...options } });
  const pool = "{ provider: box, size: 1cpu1gb1gbdisk, max: 1, idle: 5s }";
  const manager = await Manager.create(`providers: { box: ${box} }\npools: { small: ${pool} }\n`);
  managers.push(manager);
  await manager.start();
  return manager;
}

function folderOf(manager: Manager): string {
  return join(manager.state, "providers/box/machines");
}

function machines(manager: Manager): string[] {
  return readdirSync(folderOf(manager));
}

function processesOf(manager: Manager, name: string): Promise<readonly number[]> {
  return processesWith(markerOf(join(folderOf(manager), name)));
}

interface Job {
  readonly id: string;
  readonly state: string;
  readonly outcome: string | null;
}

async function submit(manager: Manager, script: string): Promise<string> {
  const command = ["sh", "-c", script];
  const body = { repository: "r", source: { kind: "none" }, command };
  const answer = await manager.ask("/v1/jobs", body);
  assert.equal(answer.status, 201);
  return ((await answer.json()) as Job).id;
}

async function text(manager: Manager, path: string): Promise<string> {
  return (await manager.ask(path)).text();
}

/** Waits until the job has said a line. */
async function heard(manager: Manager, id: string, line: string): Promise<void> {
  const isSaid = async (): Promise<boolean> =>
    (await text(manager, `/v1/jobs/${id}/log`)).includes(JSON.stringify(`${line}\n`).slice(1, -1));
  await until(`${id} to say ${line}`, isSaid, withinMs);
}

async function ended(manager: Manager, id: string): Promise<string | null> {
  const job = async (): Promise<Job> => JSON.parse(await text(manager, `/v1/jobs/${id}`)) as Job;
  await until(`${id} to end`, async () => (await job()).state === "ended", withinMs);
  return (await job()).outcome;
}

describe("kill -9 of a Mayfly with machines of QEMU", { skip, concurrency: true }, () => {
  test("leaves a job running, and nothing once that is over", { timeout }, async () => {
    const manager = await newManager({});
    const id = await submit(manager, "echo began; sleep 20; echo went on; exit 0");
    await heard(manager, id, "began");
    const [name = ""] = machines(manager);
    await manager.end("SIGKILL");
    assert.equal((await processesOf(manager, name)).length, 2, "its keeper and its QEMU");
    await manager.start();
    await heard(manager, id, "went on");
    assert.equal(await ended(manager, id), "success");
    await until("its machine's end", async () => machines(manager).length === 0, withinMs);
    assert.deepEqual(await processesOf(manager, name), []);
  });

  test(
    "ends machines that are not to outlive it, and the next start says so",
    { timeout },
    async () => {
      const manager = await newManager({ outlive: false });
      const id = await submit(manager, "echo began; sleep 1000");
      await heard(manager, id, "began");
      const [name = ""] = machines(manager);
      assert.equal((await processesOf(manager, name)).length, 2);
      await manager.end("SIGKILL");
      const isOver = async (): Promise<boolean> => (await processesOf(manager, name)).length === 0;
      await until("all to end", isOver, withinMs);
      await manager.start();
      assert.equal(await ended(manager, id), "lost");
      assert.match(await text(manager, `/v1/why/${id}`), /it was stopped: its parent ended/);
      await until("its folder to go", async () => machines(manager).length === 0, withinMs);
    },
  );
});
