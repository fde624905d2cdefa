import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { eventually, Manager, scratchFolder, scriptJob } from "../../test/guests.ts";
import { batchBytesMax, encodeFrames } from "../guest/wire.ts";

let folder = "";
let manager: Manager;
let session = "";

before(async () => {
  folder = scratchFolder();
  manager = await Manager.open(folder);
});

after(async () => {
  await manager.close();
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  const [runner] = await manager.claimRunner();
  const nonce = "ab".repeat(16);
  ({ session } = await manager.guests.redeem(manager.tokens.claim(runner), nonce));
});

interface Answer {
  readonly status: number;
  readonly text: string;
}

function ask(
  method: string,
  path: string,
  body: Uint8Array | string = "",
  headers: Record<string, string> = { authorization: `Bearer ${session}` },
): Promise<Answer> {
  // Kept open until the answer is here, and never used again: the server may just be closing it.
  const agent = new Agent({ keepAlive: true });
  const answer = new Promise<Answer>((resolve, reject) => {
    const asking = request(
      { socketPath: manager.socket, method, path: `/v1/guest/${path}`, headers, agent },
      (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => (text += chunk.toString()));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    // The server may answer and close before it has read a body that is too large.
    asking.on("error", reject).end(body);
  });
  return answer.finally(() => agent.destroy());
}

test("a whole life in words", async () => {
  const job = await manager.native.submit(
    scriptJob("", { command: ["a b", "ü=&%\n"], environment: { A: "x y" }, artifacts: ["d/*"] }),
  );
  const work = await ask("POST", "work?wait=0");
  assert.equal(work.status, 200);
  assert.equal(
    work.text,
    `job=${job.id}\narg=a%20b\narg=%C3%BC%3D%26%25%0A\nenv=MAYFLY_REPOSITORY%3Dacme%2Frocket\n` +
      `env=A%3Dx%20y\ntimeout=3600\nartifact=d%2F*\n`,
  );
  const frames = encodeFrames([{ seq: 1, at: 5, stream: "stderr", bytes: Buffer.from("hi") }]);
  assert.deepEqual(await ask("POST", "append", frames), { status: 200, text: "" });
  assert.deepEqual(await ask("POST", "orders?wait=0"), { status: 200, text: "" });
  const sent = await ask("PUT", "artifact?path=d%2Fx%20y", "content");
  assert.match(sent.text, /^sha=[0-9a-f]{64}\nsize=7\n$/);
  const end = await ask("POST", "finish", "how=exited&exit=3&detail=a%20word");
  assert.deepEqual(end, { status: 200, text: "" });
  const ended = await manager.job(job.id);
  assert.equal(ended.exitCode, 3);
  assert.equal(ended.reason, "a word");
  assert.equal((await ask("POST", "work?wait=0")).status, 409);
});

test("no work is 204", async () => {
  assert.deepEqual(await ask("POST", "work?wait=0"), { status: 204, text: "" });
});

describe("what is malformed is refused:", () => {
  for (const [name, method, path, body, status] of [
    ["a wait of letters", "POST", "work?wait=x", "", 400],
    ["a wait below nothing", "POST", "work?wait=-1", "", 400],
    ["a part of a second", "POST", "orders?wait=1.5", "", 400],
    ["frames that are none", "POST", "append", "hello", 400],
    ["a batch too large", "POST", "append", Buffer.alloc(batchBytesMax + 1), 413],
    ["a form too large", "POST", "finish", "x".repeat(20_000), 413],
    ["an end without a word", "POST", "finish", "", 400],
    ["an end of another kind", "POST", "finish", "how=exploded&exit=", 400],
    ["an exit without a status", "POST", "finish", "how=exited&exit=", 400],
    ["a status beyond a byte", "POST", "finish", "how=exited&exit=256", 400],
    ["a status below nothing", "POST", "finish", "how=exited&exit=-1", 400],
    ["a timeout with a status", "POST", "finish", "how=timed_out&exit=1", 400],
    ["an artifact without a job", "PUT", "artifact?path=a", "x", 409],
  ] as const) {
    test(name, async () => {
      const answer = await ask(method, path, body);
      assert.equal(answer.status, status, answer.text);
      assert.match(answer.text, /^error=[a-z_]+\nmessage=\S+\n$/);
    });
  }

  test("no token, or half a one", async () => {
    for (const authorization of ["", "Bearer", "Basic abc", `Bearer ${session.slice(0, -1)}`]) {
      for (const path of ["redeem", "work", "append", "orders", "finish"]) {
        const body = path === "finish" ? "how=exited&exit=0" : "";
        const { status } = await ask("POST", path, body, { authorization });
        assert.equal(status, 401, `${path} with ${authorization}`);
      }
    }
  });
});

test("an artifact that says it is too large is refused before it comes", async () => {
  await manager.native.submit(scriptJob("true"));
  await ask("POST", "work?wait=0");
  const status = await new Promise<number>((resolve, reject) => {
    const asking = request(
      {
        socketPath: manager.socket,
        method: "PUT",
        path: "/v1/guest/artifact?path=a",
        headers: { authorization: `Bearer ${session}`, "content-length": String(2 ** 31) },
      },
      (response) => {
        resolve(response.statusCode ?? 0);
        asking.destroy();
      },
    );
    asking.on("error", reject).write("first");
  });
  assert.equal(status, 413);
});

test("an upload that is cut leaves nothing", async () => {
  await manager.native.submit(scriptJob("true"));
  await ask("POST", "work?wait=0");
  const left = (): string[] => readdirSync(join(folder, "artifacts"));
  const asking = request({
    socketPath: manager.socket,
    method: "PUT",
    path: "/v1/guest/artifact?path=a",
    headers: { authorization: `Bearer ${session}`, "content-length": "1000" },
  });
  const cut = new Promise<void>((resolve) => asking.once("close", resolve));
  asking.on("error", () => {}).write("half");
  await eventually(() => left().find((name) => name.endsWith(".new")) ?? null);
  asking.destroy();
  await cut;
  assert.equal((await ask("PUT", "artifact?path=b", "whole")).status, 200);
  // Whole ones only, once the server has noticed.
  const whole = createHash("sha256").update("whole").digest("hex");
  await eventually(() => {
    const names = left();
    const isClean = names.every((name) => /^[0-9a-f]{64}$/.test(name));
    return isClean && names.includes(whole) ? true : null;
  });
});
