import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { firstLine } from "../child.ts";
import { until } from "../conformance-world.ts";
import { isAlive } from "../processes.ts";
import { encodeFrame, FrameReader, frameTypes, type Frame } from "./frames.ts";
import { overseerOf } from "../overseer.ts";
import { endOf, makeMachineFolder } from "./machine-folder.ts";

const keeper = fileURLToPath(new URL("keeper.pl", import.meta.url));
const patienceMs = 100_000;
const linux = process.platform === "linux" ? false : "machines need Linux";

/** Stands for QEMU: joins its three descriptors to sockets of the test, and ends with either. */
const stand = `const net = require("node:net");
for (const fd of [3, 4, 5]) {
  const near = new net.Socket({ fd });
  const far = net.connect(process.argv[1] + "/" + fd);
  near.pipe(far).pipe(near);
  for (const each of [near, far]) each.on("close", () => process.exit(0)).on("error", () => {});
}`;

interface Begun {
  readonly settings?: Record<string, string>;
  /** In place of what stands for QEMU; it is not greeted, and waited for until it has ended. */
  readonly command?: string[];
  readonly program?: string;
}

/** A QEMU that says nothing, and ends when it is told to by whatever command. */
const mute = ["sh", "-c", "read quit <&4"];

/** A keeper over a QEMU and a guest that the test plays. */
class Play {
  readonly folder: string;
  readonly frames: Frame[] = [];
  readonly #servers: Server[] = [];
  readonly #sockets = new Map<string, Socket>();
  readonly guests: Socket[] = [];
  child!: ChildProcess;
  answer = "";
  commands = "";

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async begin(more: Begun = {}): Promise<Play> {
    const play = new Play(await mkdtemp(join(tmpdir(), "mayfly-keeper-")));
    try {
      await play.#begin(more);
      return play;
    } catch (error) {
      await play.close();
      throw error;
    }
  }

  async #begin(more: Begun): Promise<void> {
    for (const name of ["3", "4", "5"]) {
      await this.serve(name, (socket) => this.#sockets.set(name, socket));
    }
    const command = ["setpriv", "--pdeathsig=KILL", "--", process.execPath, "-e", stand];
    await makeMachineFolder(this.machine, {
      command: more.command ?? [...command, this.folder],
      settings: {
        guest: join(this.folder, "guest.sock"),
        boot: "600",
        deadline: "600",
        silence: "600",
        ...more.settings,
      },
      program: more.program ?? `{"command":["true"]}`,
      scratchBytes: null,
      createdAt: 1,
      memoryMb: 1,
    });
    const parent = more.settings?.["parent"] === undefined ? "ignore" : "pipe";
    this.child = spawn("perl", [keeper, this.machine], {
      stdio: [parent, "pipe", "inherit"],
      detached: true,
    });
    const limit = AbortSignal.timeout(patienceMs);
    const answered = firstLine(this.child, limit).then((line) => (this.answer = line));
    answered.catch(() => {});
    if (more.command !== undefined) return void (await answered);
    await until("QEMU", async () => this.#sockets.size === 3);
    const reader = new FrameReader();
    this.channel.on("data", (chunk: Buffer) => this.frames.push(...reader.take(chunk)));
    this.qmp.setEncoding("utf8").on("data", (chunk: string) => (this.commands += chunk));
    this.qmp.write('{"QMP": {"version": {}, "capabilities": []}}\n');
    await until("its greeting", async () => this.commands.includes("qmp_capabilities"));
    this.qmp.write('{"return": {}, "id": "up"}\n');
    await answered;
  }

  get machine(): string {
    return join(this.folder, "machine");
  }

  get channel(): Socket {
    return this.#sockets.get("3")!;
  }

  get qmp(): Socket {
    return this.#sockets.get("4")!;
  }

  get console(): Socket {
    return this.#sockets.get("5")!;
  }

  async serve(name: string, take: (socket: Socket) => void): Promise<void> {
    const server = createServer({ allowHalfOpen: name === "guest.sock" }, (socket) => {
      socket.on("error", () => {});
      take(socket);
    });
    this.#servers.push(server);
    server.listen(join(this.folder, name));
    await once(server, "listening");
  }

  send(type: number, stream = 0, payload: string | Uint8Array = ""): void {
    this.channel.write(encodeFrame(type, stream, payload));
  }

  /** As far as the guest having its program, which is given. */
  async run(): Promise<string> {
    this.send(frameTypes.ready, 0, "{}");
    await this.frame((frame) => frame.type === frameTypes.program && frame.stream === 0);
    const parts = this.frames.filter(({ type }) => type === frameTypes.program);
    return Buffer.concat(parts.map(({ payload }) => payload)).toString();
  }

  async frame(fits: (frame: Frame) => boolean): Promise<Frame> {
    await until("a frame", async () => this.frames.some(fits));
    return this.frames.find(fits)!;
  }

  /** How it ended, once nothing of it runs. */
  async end(): Promise<string> {
    await until("the keeper's end", async () => {
      const running = await overseerOf(this.machine);
      if (this.commands.includes('"quit"')) this.qmp.destroy();
      return running !== null && !(await isAlive(running));
    });
    const end = await endOf(this.machine);
    return end === null ? "none" : `${end.how} ${end.exitCode ?? "-"} ${end.words}`;
  }

  async close(): Promise<void> {
    this.child?.kill("SIGKILL");
    for (const socket of [...this.#sockets.values(), ...this.guests]) socket.destroy();
    for (const server of this.#servers) server.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

describe("the keeper of a machine", { skip: linux, timeout: 600_000 }, () => {
  const plays: Play[] = [];
  const begin = async (...more: Parameters<typeof Play.begin>): Promise<Play> => {
    const play = await Play.begin(...more);
    plays.push(play);
    return play;
  };
  afterEach(async () => {
    for (const play of plays.splice(0)) await play.close();
  });

  it("gives the program with the time, in as many frames as it takes", async () => {
    const content = randomBytes(150_000).toString("hex");
    const play = await begin({ program: JSON.stringify({ files: [{ content }] }) });
    assert.equal(play.answer, "started");
    const before = Date.now();
    const program = JSON.parse(await play.run());
    assert.equal(program.files[0].content, content);
    assert.ok(program.timeMs >= before - 1_000 && program.timeMs <= Date.now() + 1_000);
    assert.equal(play.frames.filter(({ stream }) => stream === 1).length, 4);
    assert.equal(await readFile(join(play.machine, "ready"), "utf8"), "{}");
  });

  const ends: readonly (readonly [string, string])[] = [
    ['{"exitCode":0,"reason":"exited"}', "exit 0 exited"],
    ['{"signal":null,"exitCode": 7, "reason": "exited"}', "exit 7 exited"],
    ['{"exitCode":null,"signal":9,"reason":"exited"}', "exit 137 exited"],
    ['{"exitCode":null,"reason":"deadline"}', "deadline - out of time"],
    ['{"exitCode":null,"reason":"error","detail":"no such\\u001b"}', "failed - no such\\u001b"],
    ["{}", "protocol - an EXIT that says nothing"],
    ["\0".repeat(5_000), "protocol - an EXIT too long"],
  ];
  for (const [exit, expected] of ends) {
    it(`ends with ${expected.slice(0, 40)}`, async () => {
      const play = await begin();
      await play.run();
      play.send(frameTypes.exit, 0, exit);
      assert.equal(await play.end(), expected);
    });
  }

  it("tells a panic, a restart, a power-off and a lost QEMU apart", async () => {
    const event = (name: string, data: object): string => JSON.stringify({ event: name, data });
    const reset = event("SHUTDOWN", { guest: true, reason: "guest-reset" });
    const cases: readonly (readonly [(play: Play) => void, RegExp])[] = [
      [({ qmp }) => qmp.write(`${event("GUEST_PANICKED", {})}\n`), /^panic - it does not say why/],
      [({ qmp }) => qmp.write(`${reset}\n`), /^lost - the guest restarted/],
      [
        ({ qmp }) => qmp.write(`${reset.replace("guest-reset", "guest-shutdown")}\n`),
        /^lost - the guest powered off/,
      ],
      [({ console }) => console.write("Kernel panic - not syncing: Oh\r\n"), /^panic - Oh$/],
      [({ qmp }) => qmp.destroy(), /^lost - QEMU ended/],
    ];
    for (const [act, expected] of cases) {
      const play = await begin();
      await play.run();
      act(play);
      assert.match(await play.end(), expected);
    }
  });

  it("ends a guest that breaks the protocol, and says by what", async () => {
    const { open, data, close, credit, ready, exit } = frameTypes;
    const long = Buffer.from([3, 0, 0, 0, 1, 0, 1, 0, 1]);
    const whole = Buffer.alloc(65_536);
    const cases: readonly (readonly [(play: Play) => void, RegExp])[] = [
      [(play) => play.send(99), /type 99/],
      [(play) => play.send(frameTypes.program), /type 10/],
      [(play) => play.channel.write(long), /65537 bytes/],
      [(play) => play.send(ready, 0, "{}"), /READY twice/],
      [(play) => play.send(data, 5, "x"), /no stream, 5/],
      [(play) => (play.send(open, 5), play.send(open, 5)), /stream 5 is open/],
      [(play) => (play.send(open, 5), play.send(credit, 5, "x")), /credit of 1 bytes/],
      [
        (play) => (play.send(open, 5), play.send(close, 5), play.send(data, 5, "x")),
        /after its CLOSE|no stream/,
      ],
      [
        (play) => {
          for (let n = 0; n < 129; n += 1) play.send(open, n);
        },
        /more than 128 streams/,
      ],
      [
        (play) => {
          play.send(open, 5);
          for (let n = 0; n < 20; n += 1) play.send(data, 5, whole);
        },
        /more data than its credit/,
      ],
    ];
    for (const [act, expected] of cases) {
      const play = await begin();
      // It takes connections and reads nothing.
      await play.serve("guest.sock", (socket) => play.guests.push(socket.pause()));
      await play.run();
      act(play);
      const end = await play.end();
      assert.match(end, /^protocol - /);
      assert.match(end, expected);
    }
    const early = await begin();
    early.send(exit, 0, '{"exitCode":0,"reason":"exited"}');
    assert.match(await early.end(), /^protocol - EXIT before/);
  });

  it("carries streams both ways, a megabyte each, with their ends", async () => {
    const play = await begin();
    const { open, data, close, credit } = frameTypes;
    const there = randomBytes(1_000_000);
    const back = randomBytes(1_000_000);
    let heard = Buffer.alloc(0);
    let isOver = false;
    await play.serve("guest.sock", (socket) => {
      play.guests.push(socket);
      socket.on("data", (chunk: Buffer) => (heard = Buffer.concat([heard, chunk])));
      socket.on("end", () => ((isOver = true), socket.end(back)));
    });
    await play.run();
    play.send(open, 7);
    // The guest's side keeps to its credit, and gives it.
    let sent = 0;
    let allowed = 262_144;
    let got = 0;
    let seen = play.frames.length;
    const received: Buffer[] = [];
    await until("all of it", async () => {
      for (const frame of play.frames.slice(seen)) {
        seen += 1;
        if (frame.stream !== 7) continue;
        if (frame.type === credit) allowed += frame.payload.readUInt32BE();
        if (frame.type !== data) continue;
        got += frame.payload.length;
        received.push(frame.payload);
        const more = Buffer.alloc(4);
        more.writeUInt32BE(frame.payload.length);
        play.send(credit, 7, more);
      }
      while (allowed > 0 && sent < there.length) {
        const size = Math.min(allowed, 65_536, there.length - sent);
        play.send(data, 7, there.subarray(sent, sent + size));
        [sent, allowed] = [sent + size, allowed - size];
        if (sent === there.length) play.send(close, 7);
      }
      return got === back.length && isOver;
    });
    assert.ok(heard.equals(there), "what the guest sent");
    assert.ok(Buffer.concat(received).equals(back), "what it got");
    await play.frame((frame) => frame.type === close && frame.stream === 7);
    // It is forgotten: the same number may be used again.
    play.send(open, 7);
    await until("another connection", async () => play.guests.length === 2);
  });

  it("sends no more than the guest's credit", async () => {
    const play = await begin();
    await play.serve("guest.sock", (socket) => {
      play.guests.push(socket);
      socket.write(Buffer.alloc(1_000_000));
    });
    await play.run();
    play.send(frameTypes.open, 1);
    const bytes = (): number =>
      play.frames.reduce((sum, { type, payload }) => sum + (type === 3 ? payload.length : 0), 0);
    await until("the credit's end", async () => bytes() === 262_144);
    play.send(frameTypes.credit, 1, Buffer.from([0, 0, 0, 9]));
    await until("nine more", async () => bytes() === 262_153);
  });

  it("closes a stream at once while nobody listens, and goes on", async () => {
    const play = await begin();
    await play.run();
    play.send(frameTypes.open, 1);
    await play.frame(({ type, stream }) => type === frameTypes.close && stream === 1);
    play.send(frameTypes.data, 1, "late");
    play.send(frameTypes.close, 1);
    play.send(frameTypes.exit, 0, '{"exitCode":3,"reason":"exited"}');
    assert.equal(await play.end(), "exit 3 exited");
  });

  it("keeps the beginning of what a guest floods it with", async () => {
    const play = await begin();
    await play.run();
    for (let n = 0; n < 200; n += 1) play.send(frameTypes.log, 0, Buffer.alloc(50_000, "x"));
    for (let n = 0; n < 3_000; n += 1) play.send(frameTypes.beat);
    play.console.write(Buffer.alloc(1_000_000, "y"));
    play.send(frameTypes.exit, 0, '{"exitCode":0,"reason":"exited"}');
    assert.equal(await play.end(), "exit 0 exited");
    assert.equal((await stat(join(play.machine, "log"))).size, 65_536);
    assert.ok((await stat(join(play.machine, "console"))).size <= 65_536);
  });

  it("ends a machine that never gets ready, falls silent, or is out of time", async () => {
    // What is waited for may be over before it was seen, but for the end.
    const slow = await begin({ settings: { boot: "1" }, command: mute });
    assert.equal(await slow.end(), "boot - not ready after 1 s");
    assert.equal(slow.answer, "over", "it was a machine, though QEMU was not up yet");
    const copy = await begin({ settings: { boot: "1", state: "/nonexistent" }, command: mute });
    assert.match(copy.answer, /^failed /, "the same without what it is a copy of may do");
    const silent = await begin({ settings: { silence: "1" } });
    silent.send(frameTypes.ready, 0, "{}");
    assert.equal(await silent.end(), "lost - not heard for 1 s");
    const late = await begin({ settings: { deadline: "-39" } });
    late.send(frameTypes.ready, 0, "{}");
    assert.match(await late.end(), /^deadline - out of time/);
  });

  it("takes QEMU with it when it is killed, and ends when it is asked", async () => {
    const play = await begin();
    const closed = once(play.channel, "close");
    play.child.kill("SIGKILL");
    await closed;
    const asked = await begin();
    asked.child.kill("SIGTERM");
    assert.equal(await asked.end(), "stopped - asked to");
  });

  it("ends a machine whose network has lost its gate", async () => {
    const settings = { gate: "/nonexistent/gate.pl", reach: "" };
    const play = await begin({ settings, command: mute });
    assert.equal(await play.end(), "lost - the gate of its network ended");
  });

  it("ends with its parent where it is to", async () => {
    const play = await begin({ settings: { parent: "1" } });
    await play.run();
    play.child.stdin!.destroy();
    assert.equal(await play.end(), "stopped - its parent ended");
  });

  it("says why QEMU does not run, and that it has one keeper and one life", async () => {
    const failed = await begin({ command: ["/nonexistent/qemu"] });
    assert.match(failed.answer, /^failed .*nonexistent/);
    assert.match(await failed.end(), /^qemu - /);
    const play = await begin();
    const another = async (): Promise<string> =>
      firstLine(
        spawn("perl", [keeper, play.machine], { stdio: ["ignore", "pipe", "inherit"] }),
        AbortSignal.timeout(patienceMs),
      );
    assert.equal(await another(), "taken");
    play.child.kill("SIGTERM");
    await play.end();
    assert.equal(await another(), "over");
  });
});
