import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test, type TestContext } from "node:test";
import { Manager } from "./manager.ts";
import { type Look, until as waitUntil } from "./until.ts";

/* A state folder on a small disk of its own that fills up while the manager works on it. */

const diskMb = 24;
const managers: Manager[] = [];
after(async () => {
  for (const manager of managers) {
    await manager.end("SIGKILL");
    unmount(manager.state);
    manager.remove();
  }
});

interface Job {
  readonly id: string;
  readonly state: string;
  readonly outcome: string | null;
  readonly exitCode: number | null;
}

interface Problem {
  readonly detail: string;
  readonly hint?: string;
}

async function onSmallDisk(t: TestContext): Promise<Manager | null> {
  const manager = await Manager.create(
    "providers: { box: { host: {} } }\n" +
      "pools: { small: { provider: box, size: 1cpu1gb1gbdisk, max: 2, idle: 5s } }\n",
  );
  mkdirSync(manager.state, { mode: 0o700 });
  try {
    const options = `size=${diskMb}m,mode=0700`;
    execFileSync("mount", ["-t", "tmpfs", "-o", options, "mayfly", manager.state], {
      stdio: "pipe",
    });
  } catch (error) {
    manager.remove();
    const why = String((error as { stderr?: Buffer }).stderr ?? error).trim();
    t.skip(`a small disk cannot be mounted here: ${why}`);
    return null;
  }
  managers.push(manager);
  await manager.start();
  return manager;
}

function unmount(folder: string): void {
  try {
    // Lazily: a machine that a failed test left may still be in it.
    execFileSync("umount", ["--lazy", folder], { stdio: "ignore" });
  } catch {
    // It was never mounted.
  }
}

let fillers = 0;

function fill(manager: Manager): void {
  // Again: what writes beside us may have given something back meanwhile.
  for (let round = 0; round < 100; round++) {
    for (const size of [64 * 1024, 4096]) {
      try {
        for (;;) {
          const path = join(manager.state, `filler-${fillers++}`);
          writeFileSync(path, Buffer.alloc(size, 1));
        }
      } catch {
        // No more of this size goes in.
      }
    }
    if (statfsSync(manager.state).bfree < 2) return;
  }
  assert.fail("the disk does not fill up");
}

function makeRoom(manager: Manager): void {
  for (const name of readdirSync(manager.state)) {
    if (name.startsWith("filler-")) rmSync(join(manager.state, name));
  }
}

const until = <T>(what: string, look: Look<T>): Promise<T> =>
  waitUntil(what, look, { told: () => managers.at(-1)?.said });

/** Says a line, waits for a file outside of the disk, says another, and ends as told. */
function waiting(go: string, exitCode: number, more: object = {}): object {
  const script = `echo before; until [ -e '${go}' ]; do sleep 0.1; done; echo after; exit ${exitCode}`;
  const command = ["sh", "-c", script];
  return { repository: "disk", source: { kind: "none" }, command, ...more };
}

async function submitted(manager: Manager, body: object): Promise<Job> {
  const response = await manager.ask("/v1/jobs", body);
  assert.equal(response.status, 201);
  return (await response.json()) as Job;
}

async function job(manager: Manager, id: string): Promise<Job> {
  return (await (await manager.ask(`/v1/jobs/${id}`)).json()) as Job;
}

function ended(manager: Manager, id: string): Promise<Job> {
  return until(`${id} ended`, async () => {
    const seen = await job(manager, id);
    return seen.state === "ended" ? seen : null;
  });
}

async function output(manager: Manager, id: string, stream = "stdout"): Promise<string> {
  const response = await manager.ask(`/v1/jobs/${id}/log?limit=1000`);
  const { frames } = (await response.json()) as { frames: { stream: string; text?: string }[] };
  return frames.flatMap((frame) => (frame.stream === stream ? [frame.text ?? ""] : [])).join("");
}

async function said(manager: Manager, id: string, text: string): Promise<void> {
  await until(`${id} said ${text}`, async () =>
    (await output(manager, id)).includes(text) ? true : null,
  );
}

/** What is free is used up first: by then a submission is refused, in words. */
async function refusal(manager: Manager): Promise<{ acknowledged: string[]; problem: Problem }> {
  const acknowledged: string[] = [];
  const body = { repository: "x".repeat(300), source: { kind: "none" }, command: ["true"] };
  const environment = { PAD: "x".repeat(20_000) };
  for (let tries = 0; tries < 500; tries++) {
    const response = await manager.ask("/v1/jobs", { ...body, environment });
    if (response.status !== 201) {
      assert.equal(response.status, 503);
      assert.ok(response.headers.get("retry-after") !== null);
      return { acknowledged, problem: (await response.json()) as Problem };
    }
    acknowledged.push(((await response.json()) as Job).id);
  }
  throw new Error("it took everything though the disk is full");
}

async function unready(manager: Manager): Promise<void> {
  await until("/readyz tells", async () => {
    const response = await manager.ask("/readyz");
    const { detail } = (await response.json()) as Problem;
    return response.status === 503 && /the disk is full/.test(detail) ? true : null;
  });
}

function answers(manager: Manager): Promise<boolean> {
  return manager.ask("/healthz").then(
    ({ ok }) => ok,
    () => false,
  );
}

async function ready(manager: Manager): Promise<void> {
  await until("it is ready again", async () => ((await manager.isReady()) ? true : null));
}

function assertSound(manager: Manager): void {
  const db = new DatabaseSync(join(manager.state, "mayfly.db"), { readOnly: true, timeout: 5000 });
  const [row] = db.prepare("pragma integrity_check").all();
  db.close();
  assert.equal(row?.["integrity_check"], "ok");
}

/** Seconds of processor time the manager has used, by the kernel's count. */
function usedSeconds(manager: Manager): number {
  const stat = execFileSync("cat", [`/proc/${manager.pid}/stat`], { encoding: "utf8" });
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

test("a full disk refuses the new, keeps the old, and is over as soon as there is room", async (t) => {
  const manager = await onSmallDisk(t);
  if (manager === null) return;
  const go = join(manager.folder, "go");
  const running = await submitted(manager, waiting(go, 7));
  await said(manager, running.id, "before");

  fill(manager);
  const { acknowledged, problem } = await refusal(manager);
  assert.match(problem.detail, /the disk is full/);
  assert.match(problem.hint ?? "", /Make room/);
  await unready(manager);
  assert.equal((await manager.ask("/healthz")).status, 200);
  // It ends while nothing can be written down.
  writeFileSync(go, "");
  await manager.saidThat(/a round failed[^]*a round failed/);
  const before = usedSeconds(manager);
  const start = Date.now();
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const share = (usedSeconds(manager) - before) / ((Date.now() - start) / 1000);
  assert.ok(share < 0.8, `it spins: ${share} of a processor`);
  assert.equal((await job(manager, running.id)).state, "started", "nothing was decided meanwhile");
  assert.ok(manager.isRunning);

  makeRoom(manager);
  const over = await ended(manager, running.id);
  assert.deepEqual([over.outcome, over.exitCode], ["failure", 7]);
  assert.equal(await output(manager, running.id), "before\nafter\n");
  for (const id of acknowledged) assert.equal((await ended(manager, id)).outcome, "success", id);
  await ready(manager);
  assertSound(manager);
});

test("a manager killed and started on a full disk goes on once there is room", async (t) => {
  const manager = await onSmallDisk(t);
  if (manager === null) return;
  const go = join(manager.folder, "go");
  const running = await submitted(manager, waiting(go, 0));
  await said(manager, running.id, "before");
  fill(manager);
  const { acknowledged } = await refusal(manager);
  await manager.end("SIGKILL");
  fill(manager);

  manager.launch();
  // It may be ready for a moment only, or not at all: until it has written something in vain.
  await until("it started, or said why not", async () =>
    !manager.isRunning || (await answers(manager)) ? true : null,
  );
  if (!manager.isRunning) assert.match(manager.said, /^mayfly: .*(disk|space)/m);
  assert.doesNotMatch(manager.said, /bug in Mayfly/);
  writeFileSync(go, "");
  makeRoom(manager);
  if (!manager.isRunning) await manager.start();
  assert.equal((await ended(manager, running.id)).outcome, "success");
  assert.equal(await output(manager, running.id), "before\nafter\n");
  for (const id of acknowledged) assert.equal((await ended(manager, id)).outcome, "success", id);
  assertSound(manager);
});

test("a log that fills the disk waits in its machine, and is whole in the end", async (t) => {
  const manager = await onSmallDisk(t);
  if (manager === null) return;
  const lines = 60_000;
  const script = `i=0; while [ $i -lt ${lines} ]; do echo "$i ${"x".repeat(60)}"; i=$((i+1)); done`;
  // Half of the disk is taken, so that it fills up in the middle.
  writeFileSync(join(manager.state, "filler-half"), Buffer.alloc((diskMb - 4) * 2 ** 20, 1));
  const { id } = await submitted(manager, {
    repository: "disk",
    source: { kind: "none" },
    command: ["sh", "-c", script],
  });
  await unready(manager);
  assert.equal((await job(manager, id)).state, "started");
  makeRoom(manager);
  assert.equal((await ended(manager, id)).outcome, "success");
  const db = new DatabaseSync(join(manager.state, "mayfly.db"), { readOnly: true, timeout: 5000 });
  const rows = db
    .prepare("select bytes from log_frames where job = ? and stream = 'stdout' order by seq")
    .all(id) as { bytes: Uint8Array }[];
  db.close();
  const numbers = Buffer.concat(rows.map(({ bytes }) => bytes))
    .toString()
    .trimEnd()
    .split("\n")
    .map((line) => Number(line.split(" ")[0]));
  assert.deepEqual(
    numbers,
    Array.from({ length: lines }, (_, index) => index),
  );
});

test("an artifact the disk has no room for is left behind, and its job ends as it did", async (t) => {
  const manager = await onSmallDisk(t);
  if (manager === null) return;
  const command = ["sh", "-c", "head -c 9000000 /dev/zero > big; echo small > small; exit 3"];
  writeFileSync(join(manager.state, "filler-half"), Buffer.alloc(8 * 2 ** 20, 1));
  const { id } = await submitted(manager, {
    repository: "disk",
    source: { kind: "none" },
    command,
    artifacts: ["big", "small"],
  });
  const over = await ended(manager, id);
  assert.deepEqual([over.outcome, over.exitCode], ["failure", 3]);
  assert.match(await output(manager, id, "mayfly"), /artifact big is left behind: .*disk/);
  const kept = readdirSync(join(manager.state, "artifacts"));
  assert.deepEqual(
    kept.filter((name) => name.endsWith(".new")),
    [],
  );
  await ready(manager);
});
