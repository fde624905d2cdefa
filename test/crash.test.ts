import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { Manager } from "./manager.ts";
import { until } from "./until.ts";

const managers: Manager[] = [];
after(async () => {
  for (const manager of managers) {
    await manager.end("SIGKILL");
    manager.remove();
  }
});

async function newManager(max: number): Promise<Manager> {
  const manager = await Manager.create(
    `providers:\n  box:\n    host: {}\npools:\n  small:\n    provider: box\n    size: 1cpu1gb\n    max: ${max}\n`,
  );
  managers.push(manager);
  await manager.start();
  return manager;
}

interface Job {
  readonly id: string;
  readonly state: string;
  readonly outcome: string | null;
  readonly exitCode: number | null;
}

/** Counts to `last`, a number a line, as slowly as told. */
function counting(last: number, seconds: number): object {
  const script = `i=1; while [ $i -le ${last} ]; do echo $i; i=$((i+1)); sleep ${seconds}; done`;
  return { repository: "count", source: { kind: "none" }, command: ["sh", "-c", script] };
}

async function job(manager: Manager, id: string): Promise<Job> {
  return (await (await manager.ask(`/v1/jobs/${id}`)).json()) as Job;
}

async function output(manager: Manager, id: string): Promise<string> {
  const response = await manager.ask(`/v1/jobs/${id}/log?limit=1000`);
  const { frames } = (await response.json()) as { frames: { stream: string; text?: string }[] };
  return frames
    .filter(({ stream }) => stream === "stdout")
    .map(({ text }) => text ?? "")
    .join("");
}

async function allGone(manager: Manager): Promise<true | null> {
  const { machines } = (await (await manager.ask("/v1/machines")).json()) as {
    machines: { state: string }[];
  };
  return machines.every(({ state }) => state === "gone") ? true : null;
}

function assertNothingLeft(manager: Manager): void {
  const folder = join(manager.state, "providers/box/machines");
  assert.deepEqual(readdirSync(folder), [], "folders of machines left");
}

test("a job outlives kill -9 of the manager, and nothing it said is lost", async () => {
  const manager = await newManager(1);
  const submitted = (await (await manager.ask("/v1/jobs", counting(30, 0.1))).json()) as Job;
  for (const line of ["5", "12", "20"]) {
    await until(`it said ${line}`, async () =>
      (await output(manager, submitted.id)).split("\n").includes(line) ? true : null,
    );
    await manager.end("SIGKILL");
    await manager.start();
  }
  const ended = await until("it ended", async () => {
    const seen = await job(manager, submitted.id);
    return seen.state === "ended" ? seen : null;
  });
  assert.equal(ended.outcome, "success");
  const expected = Array.from({ length: 30 }, (_, i) => `${i + 1}\n`).join("");
  assert.equal(await output(manager, submitted.id), expected);
  await until("its machine is gone", () => allGone(manager));
  assertNothingLeft(manager);
});

test("no acknowledged job is lost and no machine leaked, whenever the manager is killed", async () => {
  const manager = await newManager(3);
  const ids: string[] = [];
  // A fixed sequence of moments: between submissions, while machines are made, while they end.
  for (const waitMs of [0, 40, 90, 150, 230, 320]) {
    for (let i = 0; i < 3; i++) {
      const response = await manager.ask("/v1/jobs", counting(3, 0.05));
      assert.equal(response.status, 201);
      ids.push(((await response.json()) as Job).id);
    }
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    await manager.end("SIGKILL");
    await manager.start();
  }
  for (const id of ids) {
    const ended = await until(`${id} ended`, async () => {
      const seen = await job(manager, id);
      return seen.state === "ended" ? seen : null;
    });
    assert.equal(ended.outcome, "success", id);
    assert.equal(await output(manager, id), "1\n2\n3\n", id);
  }
  await until("every machine is gone", () => allGone(manager));
  assertNothingLeft(manager);
});

test("SIGTERM ends it cleanly and leaves the running job to the next start", async () => {
  const manager = await newManager(1);
  const submitted = (await (await manager.ask("/v1/jobs", counting(20, 0.1))).json()) as Job;
  await until("it runs", async () => ((await output(manager, submitted.id)) === "" ? null : true));
  assert.equal(await manager.end("SIGTERM"), 0);
  await manager.start();
  const ended = await until("it ended", async () => {
    const seen = await job(manager, submitted.id);
    return seen.state === "ended" ? seen : null;
  });
  assert.equal(ended.outcome, "success");
});

test("a second manager on the same state folder is refused", async () => {
  const manager = await newManager(1);
  const second = await Manager.create("");
  managers.push(second);
  Object.assign(second, { state: manager.state });
  await assert.rejects(second.start(), /another Mayfly/);
});
