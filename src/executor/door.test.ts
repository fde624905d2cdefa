import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { rmSync } from "node:fs";
import { createServer, request, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually, scratchFolder } from "../../test/guests.ts";
import { listenSocket } from "../web/listen.ts";
import { Door } from "./door.ts";

const script = join(import.meta.dirname, "..", "guest", "shell.pl");
const word = "the word";
const ever = new AbortController().signal;
/** For what must happen, on however slow a machine. */
const patienceMs = 100_000;

describe("a way into a machine", () => {
  const door = new Door("the-word");
  const server = createServer((_, answer) => void answer.writeHead(503).end());
  server.on("upgrade", door.knock);
  let folder = "";
  let socket = "";
  let shell: ChildProcess | null = null;
  before(async () => {
    folder = scratchFolder();
    socket = join(folder, "guest.sock");
    await listenSocket(server, socket);
  });
  after(() => {
    shell?.kill("SIGKILL");
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function knock(bearer: string, path = "/v1/guest/shell"): Promise<number | Duplex> {
    return new Promise((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${bearer}`,
        connection: "Upgrade",
        upgrade: "mayfly-shell",
      };
      const asked = request({ socketPath: socket, path, headers }, (answer: IncomingMessage) => {
        answer.resume();
        resolve(answer.statusCode ?? 0);
      });
      asked.on("upgrade", (_, link) => resolve(link)).on("error", reject);
      asked.end();
    });
  }

  /** What a peer that says this makes of a shell: its status and what is shown. */
  async function saying(bytes: Buffer): Promise<{ status: number | null; shown: string }> {
    const opened = door.open(ever);
    const peer = await knock("the-word");
    assert.ok(typeof peer !== "number");
    const link = await opened;
    assert.ok(link !== null);
    let shown = "";
    peer.on("error", () => {}).end(bytes);
    const status = await link.run(async (piece) => void (shown += piece.toString("latin1")));
    return { status, shown };
  }

  const frame = (type: string, payload: string, length = payload.length): Buffer => {
    const head = Buffer.alloc(5);
    head.write(type, "latin1");
    head.writeUInt32BE(length, 1);
    return Buffer.concat([head, Buffer.from(payload, "latin1")]);
  };

  test("opens to the word alone, and only when somebody wants in", async () => {
    assert.equal(await knock("the-word"), 503);
    const patience = new AbortController();
    const opened = door.open(patience.signal);
    assert.equal(await knock(word.slice(1)), 401);
    assert.equal(await knock("the-word", "/v1/guest/other"), 401);
    patience.abort();
    assert.equal(await opened, null);
    assert.equal(await knock("the-word"), 503);
  });

  const peers: readonly (readonly [string, Buffer, number | null, string])[] = [
    ["all frames of one piece", Buffer.concat([frame("D", "ab"), frame("E", "7")]), 7, "ab"],
    ["an end without a word", frame("D", "ab"), null, "ab"],
    ["a frame that is cut short", frame("D", "ab", 3), null, ""],
    ["a frame too long", frame("D", "", 65_537), null, ""],
    ["a frame of another kind", Buffer.concat([frame("X", "ab"), frame("E", "7")]), null, ""],
    ["no status", frame("E", "256"), null, ""],
    ["rubbish", Buffer.from("HTTP/1.1 200 OK\r\n\r\n"), null, ""],
  ];
  for (const [name, bytes, status, shown] of peers) {
    test(`a peer's ${name}`, async () => {
      assert.deepEqual(await saying(bytes), { status, shown });
    });
  }

  test("a shell on a terminal of its own, and another after it", async () => {
    const env = { ...process.env, MAYFLY_DOOR: "the-word" };
    shell = spawn("perl", [script, `unix:${socket}`], { env, stdio: "ignore" });
    for (const status of [5, 6]) {
      const link = await door.open(AbortSignal.timeout(patienceMs));
      assert.ok(link !== null, "it does not knock");
      let shown = "";
      link.begin({ columns: 101, rows: 33 }, "xterm");
      const ended = link.run(async (bytes) => void (shown += bytes.toString()));
      link.type(Buffer.from("stty size; echo $TERM-; echo [$MAYFLY_DOOR]\r"));
      await eventually(() => (shown.includes("[]") ? true : null), patienceMs);
      assert.match(shown, /33 101\r\nxterm-\r\n\[\]/);
      link.resize({ columns: 50, rows: 20 });
      link.type(Buffer.from(`stty size; exit ${status}\r`));
      assert.equal(await ended, status);
      assert.match(shown, /20 50\r\n/);
    }
  });

  test("who hangs up takes the shell along", async () => {
    const link = await door.open(AbortSignal.timeout(patienceMs));
    assert.ok(link !== null);
    let shown = "";
    link.begin({ columns: 80, rows: 24 }, "xterm");
    const ended = link.run(async (bytes) => void (shown += bytes.toString()));
    link.type(Buffer.from("echo pid=$$=; trap '' HUP; while :; do sleep 0.1; done\r"));
    const [, pid] = await eventually(() => /pid=(\d+)=/.exec(shown), patienceMs);
    link.close();
    assert.equal(await ended, null);
    await eventually(() => (isGone(Number(pid)) ? true : null), patienceMs);
  });
});

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}
