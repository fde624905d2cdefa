import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test } from "node:test";
import { processesWith } from "../src/providers/processes.ts";
import { Store } from "../src/store/store.ts";
import { recount } from "../src/store/tallies.ts";
import { Manager } from "./manager.ts";

/*
 * A manager under load is killed again and again, at moments that a seed decides, and everything it
 * acknowledged still comes true, once. MAYFLY_KILLS says how often (15), MAYFLY_SEED at which
 * moments; a run cannot be repeated exactly, for the processes' own timing is real.
 */

const kills = Number(process.env["MAYFLY_KILLS"] ?? 15);
const seed = Number(process.env["MAYFLY_SEED"] ?? 1);
const submittersAtOnce = 2;
/** Jobs that wait or run at once: enough for every machine, and soon done when the world is calm. */
const openJobsMax = 12;
const calmMs = 240_000;

const manager = await Manager.create(
  "providers: { box: { host: {} } }\n" +
    "pools: { small: { provider: box, size: 1cpu1gb, max: 4, idle: 5s } }\n",
);
after(async () => {
  await manager.end("SIGKILL");
  manager.remove();
});

let state = seed * 2 + 1;
/** Uniform in [0, below), by Lehmer's generator. */
function chance(below: number): number {
  state = (state * 48_271) % 0x7fffffff;
  return state % below;
}

interface Expected {
  readonly mark: string;
  readonly lines: number;
  readonly exitCode: number;
}

const acknowledged = new Map<string, Expected>();
const listeners = new Set<() => void>();
const ran = join(manager.folder, "ran");
let submitted = 0;
const load = { isOver: false };

/** Notes in a file that it ran, and says some lines. */
function nextJob(): { expected: Expected; body: object } {
  submitted += 1;
  const expected = {
    mark: `job${submitted}`,
    lines: 1 + chance(20),
    exitCode: chance(4) === 0 ? 1 + chance(100) : 0,
  };
  const { mark, lines, exitCode } = expected;
  const script =
    `echo ${mark} >> '${ran}'; i=1; ` +
    `while [ $i -le ${lines} ]; do echo ${mark} $i; i=$((i+1)); sleep 0.02; done; exit ${exitCode}`;
  const body = { repository: "load", source: { kind: "none" }, command: ["sh", "-c", script] };
  return { expected, body };
}

async function submit(): Promise<void> {
  while (!load.isOver) {
    const { expected, body } = nextJob();
    try {
      const response = await manager.ask("/v1/jobs", body);
      const job = (await response.json()) as { id: string };
      if (response.status !== 201) continue;
      acknowledged.set(job.id, expected);
      for (const listener of listeners) listener();
    } catch {
      // It was killed before it answered: the job may have been stored or not.
      await pause(20);
    }
    await roomForMore();
  }
}

async function roomForMore(): Promise<void> {
  while (!load.isOver && openJobs() >= openJobsMax) await pause(20);
}

function openJobs(): number {
  try {
    return ask<{ n: number }>("select count(*) as n from jobs where state <> 'ended'")[0]?.n ?? 0;
  } catch {
    return 0;
  }
}

/** Asks the store itself, beside the manager. */
function ask<Row>(query: string, ...values: string[]): Row[] {
  const db = new DatabaseSync(join(manager.state, "mayfly.db"), { readOnly: true, timeout: 5_000 });
  try {
    return db
      .prepare(query)
      .all(...values)
      .map((row) => ({ ...row })) as Row[];
  } finally {
    db.close();
  }
}

function acknowledgements(count: number): Promise<void> {
  const target = acknowledged.size + count;
  return new Promise((resolve) => {
    const look = (): void => {
      if (acknowledged.size < target && manager.isRunning) return;
      listeners.delete(look);
      resolve();
    };
    listeners.add(look);
    look();
  });
}

/** Waits for the moment of the next kill. */
async function moment(): Promise<string> {
  const kind = chance(10);
  if (kind < 2) {
    // Somewhere in its start; a start takes about a second.
    await pause(chance(1000));
    return "start-up";
  }
  if (kind < 3) {
    await manager.saidLines(1);
    return "first line";
  }
  if (kind < 7) {
    await manager.saidLines(1 + chance(60));
    return "line";
  }
  await untilReady();
  await acknowledgements(1 + chance(6));
  return "acknowledgement";
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function calm(): Promise<void> {
  const until = Date.now() + calmMs;
  const open = () =>
    ask<{ id: string; state: string }>(
      "select id, state from jobs where state <> 'ended' union all " +
        "select name, state from runners where state <> 'gone'",
    );
  while (open().length > 0) {
    assert.ok(Date.now() < until, `not over: ${JSON.stringify(open())}\n${manager.said}`);
    await pause(100);
  }
}

test(
  `nothing acknowledged is lost in ${kills} kills under load`,
  { timeout: 1_800_000 },
  async (t) => {
    await manager.start();
    const submitters = Array.from({ length: submittersAtOnce }, submit);
    const moments: Record<string, number> = {};
    try {
      for (let kill = 0; kill < kills; kill++) {
        const kind = await moment();
        moments[kind] = (moments[kind] ?? 0) + 1;
        assert.ok(manager.isRunning, `it ended by itself:\n${manager.said}`);
        await manager.end("SIGKILL");
        manager.launch();
      }
      await untilReady();
      // The slower it starts, the less it took between the kills.
      await acknowledgements(kills - acknowledged.size);
    } finally {
      load.isOver = true;
      await Promise.all(submitters);
    }
    await calm();
    assert.equal(await manager.end("SIGTERM"), 0);

    const runners = ask<{ name: string }>("select name from runners");
    t.diagnostic(
      `${kills} kills, ${acknowledged.size} of ${submitted} jobs acknowledged, ` +
        `${runners.length} machines; kills by moment: ${JSON.stringify(moments)}`,
    );
    assert.ok(acknowledged.size >= kills, "there was load");
    assertJobs();
    assertHistory(runners.map(({ name }) => name));
    assert.deepEqual(ask("pragma integrity_check"), [{ integrity_check: "ok" }]);
    assert.deepEqual(readdirSync(join(manager.state, "providers/box/machines")), []);
    for (const { name } of runners) {
      const folder = join(manager.state, "providers/box/machines", name);
      assert.deepEqual(await processesWith(`MAYFLY_MACHINE=${folder}`), [], `processes of ${name}`);
    }
    const store = await Store.open({ engine: "sqlite", folder: manager.state }, Date.now);
    const differing = await store.write((tx) => recount(tx, "small"), { alone: true });
    await store.close();
    assert.equal(differing, 0, "counts that were not what is there");
  },
);

async function untilReady(): Promise<void> {
  const until = Date.now() + 120_000;
  while (!(await manager.isReady())) {
    assert.ok(manager.isRunning && Date.now() < until, `it did not start:\n${manager.said}`);
    await pause(50);
  }
}

function assertJobs(): void {
  const runs = new Map<string, number>();
  for (const mark of readFileSync(ran, "utf8").trim().split("\n")) {
    runs.set(mark, (runs.get(mark) ?? 0) + 1);
  }
  for (const [id, { mark, lines, exitCode }] of acknowledged) {
    const [job] = ask<{ state: string; outcome: string; exit_code: number }>(
      "select state, outcome, exit_code from jobs where id = ?",
      id,
    );
    const outcome = exitCode === 0 ? "success" : "failure";
    assert.deepEqual(job, { state: "ended", outcome, exit_code: exitCode }, id);
    assert.equal(runs.get(mark), 1, `${id} ran not once`);
    const frames = ask<{ seq: number; stream: string; bytes: Uint8Array }>(
      "select seq, stream, bytes from log_frames where job = ? order by seq",
      id,
    );
    assert.deepEqual(
      frames.map(({ seq }) => seq),
      frames.map((_, index) => index + 1),
      `${id}: the numbers of its frames`,
    );
    const said = frames.filter(({ stream }) => stream === "stdout");
    const expected = Array.from({ length: lines }, (_, i) => `${mark} ${i + 1}\n`).join("");
    assert.equal(Buffer.concat(said.map(({ bytes }) => bytes)).toString(), expected, id);
    const kinds = factsOf(id).filter((kind) => kind !== "noted");
    assert.deepEqual(kinds, ["seen", "started", "ended"], id);
  }
}

/** What was not acknowledged, too, came to its end, and each machine's history tells all of it. */
function assertHistory(runners: readonly string[]): void {
  for (const name of runners) {
    const kinds = factsOf(name);
    assert.equal(kinds[0], "claimed", name);
    assert.equal(kinds.at(-1), "gone", `${name}: ${kinds.join()}`);
    assert.equal(new Set(kinds).size, kinds.length, `${name}: ${kinds.join()}`);
  }
  const lost = ask("select id, reason from jobs where outcome not in ('success', 'failure')");
  assert.deepEqual(lost, []);
}

function factsOf(subject: string): string[] {
  const query = "select kind from facts where subject = ? order by id";
  return ask<{ kind: string }>(query, subject).map(({ kind }) => kind);
}
