import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test } from "node:test";
import { Manager } from "./manager.ts";
import { type Look, until as waitUntil } from "./until.ts";

/* How a manager ends when it is asked to: SIGTERM from a supervisor, SIGINT from a terminal. */

const box =
  "providers: { box: { host: {} } }\n" +
  "pools: { small: { provider: box, size: 1cpu1gb, max: 3, idle: 5s } }\n";
const managers: Manager[] = [];
after(async () => {
  for (const manager of managers) {
    await manager.end("SIGKILL");
    manager.remove();
  }
});

async function newManager(configuration: string): Promise<Manager> {
  const manager = await Manager.create(configuration);
  managers.push(manager);
  return manager;
}

const until = <T>(what: string, look: Look<T>): Promise<T> =>
  waitUntil(what, look, { withinMs: 240_000, told: () => managers.at(-1)?.said });

function ask<Row>(manager: Manager, query: string): Row[] {
  const db = new DatabaseSync(join(manager.state, "mayfly.db"), { readOnly: true, timeout: 5_000 });
  try {
    return db.prepare(query).all() as Row[];
  } finally {
    db.close();
  }
}

/** Its exit status. It gives up by itself before our patience ends, with a status that says so. */
async function endWithin(manager: Manager, signal: NodeJS.Signals): Promise<number | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not end:\n${manager.said}`)), 90_000);
  });
  try {
    return await Promise.race([manager.end(signal), late]);
  } finally {
    clearTimeout(timer);
  }
}

const underLoad = "SIGTERM under load loses nothing, and the next start goes on with what runs";
test(underLoad, { timeout: 500_000 }, async () => {
  const manager = await newManager(box);
  await manager.start();
  const go = join(manager.folder, "go");
  const script = `echo on; until [ -e '${go}' ]; do sleep 0.1; done; echo off`;
  const body = { repository: "drain", source: { kind: "none" }, command: ["sh", "-c", script] };
  const acknowledged: string[] = [];
  const refusals: string[] = [];
  const submitting = (async (): Promise<void> => {
    while (manager.isRunning) {
      try {
        const response = await manager.ask("/v1/jobs", body);
        const answer = (await response.json()) as { id: string; detail?: string };
        if (response.status === 201) acknowledged.push(answer.id);
        else refusals.push(`${response.status} ${answer.detail}`);
      } catch {
        // Nobody listens any more.
      }
      await new Promise((resolve) => setTimeout(resolve, acknowledged.length < 12 ? 0 : 20));
      if (acknowledged.length > 40) return;
    }
  })();
  await until(
    "all machines run",
    () => ask(manager, "select id from jobs where state = 'started'").length === 3,
  );
  assert.equal(await endWithin(manager, "SIGTERM"), 0, manager.said);
  await submitting;
  for (const refusal of refusals) assert.equal(refusal, "503 this Mayfly is stopping");
  assert.equal(ask(manager, "select * from leases where expires_at > 0").length, 0);
  assert.doesNotMatch(manager.said, /"level":"warn"/);
  const running = ask<{ id: string }>(manager, "select id from jobs where state = 'started'");
  assert.equal(running.length, 3, "they run on");

  writeFileSync(go, "");
  await manager.start();
  await until(
    "all is over",
    () => ask(manager, "select id from jobs where state <> 'ended'").length === 0,
  );
  const ended = ask<{ id: string; outcome: string }>(manager, "select id, outcome from jobs");
  assert.deepEqual(
    ended.filter(({ outcome }) => outcome !== "success"),
    [],
  );
  const ids = new Set(ended.map(({ id }) => id));
  assert.deepEqual(
    acknowledged.filter((id) => !ids.has(id)),
    [],
  );
  assert.equal(await endWithin(manager, "SIGINT"), 0);
});

/** An upload that is under way until `finish`. */
async function upload(manager: Manager): Promise<{ finish(): Promise<number> }> {
  const token = readFileSync(join(manager.state, "token"), "utf8").trim();
  const sending = request(`${manager.url}/v1/trees`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/x-tar" },
  });
  const answered = new Promise<number>((resolve, reject) => {
    sending.on("response", (response) => {
      response.resume().on("end", () => resolve(response.statusCode ?? 0));
    });
    sending.on("error", reject);
  });
  answered.catch(() => {});
  const archive = execFileSync("tar", ["-c", "-C", import.meta.dirname, "manager.ts"]);
  sending.write(archive.subarray(0, 512));
  const sources = join(manager.state, "sources");
  await until("its bytes are being kept", () => existsSync(sources));
  await until("it is answered while the upload goes on", () => manager.isReady());
  return {
    finish: () => {
      sending.end(archive.subarray(512));
      return answered;
    },
  };
}

test("what is being answered when SIGINT comes is answered", async () => {
  const manager = await newManager(box);
  await manager.start();
  const { finish } = await upload(manager);
  const ending = endWithin(manager, "SIGINT");
  await manager.saidThat(/stopping; once more/);
  assert.equal(await finish(), 201);
  assert.equal(await ending, 0);
});

test("a second signal ends it at once, whatever it waits for", async () => {
  const manager = await newManager(box);
  await manager.start();
  await upload(manager);
  const first = endWithin(manager, "SIGTERM");
  await manager.saidThat(/stopping; once more/);
  assert.equal(await endWithin(manager, "SIGINT"), 130);
  await first;
});

test("SIGTERM while it starts ends it, and leaves a state to start from", async () => {
  const manager = await newManager(box);
  manager.launch();
  await until("it holds the state folder", () => existsSync(join(manager.state, "holder")));
  assert.equal(await endWithin(manager, "SIGTERM"), 0, manager.said);
  await manager.start();
  assert.equal(await endWithin(manager, "SIGTERM"), 0, manager.said);
});

test("SIGTERM does not wait for a provider that hangs", async () => {
  const manager = await newManager("");
  const asked = join(manager.folder, "asked");
  const program = join(manager.folder, "provider.mjs");
  const capabilities = {
    architectures: ["x64", "arm64"],
    maximum: { cpu: 64, memoryMb: 65_536, diskGb: 1000, gpu: 0, architecture: process.arch },
    channel: "socket",
    accepts: ["trusted"],
  };
  writeFileSync(
    program,
    `import { writeFileSync } from "node:fs";
     import { createInterface } from "node:readline";
     process.on("SIGTERM", () => {});
     for await (const line of createInterface({ input: process.stdin })) {
       const { id, method } = JSON.parse(line);
       if (method === "create") { writeFileSync(${JSON.stringify(asked)}, ""); continue; }
       const hello = ${JSON.stringify({ protocol: 1, capabilities })};
       const result = method === "hello" ? hello : method === "list" ? [] : null;
       console.log(JSON.stringify({ id, result }));
     }`,
  );
  const command = JSON.stringify([process.execPath, program]);
  manager.configure(
    `providers: { far: { exec: { command: ${command} } } }\n` +
      "pools: { small: { provider: far, size: 1cpu1gb, max: 1 } }\n",
  );
  await manager.start();
  const body = { repository: "drain", source: { kind: "none" }, command: ["true"] };
  assert.equal((await manager.ask("/v1/jobs", body)).status, 201);
  await until("a machine is asked for", () => existsSync(asked));
  assert.equal(await endWithin(manager, "SIGTERM"), 0, manager.said);
});
