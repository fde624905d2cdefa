import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createWriteStream, existsSync } from "node:fs";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { describe, test, type TestContext } from "node:test";
import fc from "fast-check";
import { encodeFrame, FrameReader, frameTypes, type Frame } from "../frames.ts";

const script = join(import.meta.dirname, "testing.pl");
const creditBytes = 262_144;

describe("JSON inside", () => {
  const text = fc.string({ unit: "binary" }).map((word) => `s${word}`);
  const value = fc.dictionary(
    text,
    fc.oneof(text, fc.integer(), fc.array(text), fc.constant(null)),
    {
      noNullPrototype: true,
    },
  );

  test("what is read is written again", () => {
    const documents = fc.sample(value, 300);
    // Escaped as far as possible, so that the reader meets every form.
    const lines = documents.map((one, i) =>
      i % 2 === 0 ? JSON.stringify(one) : escaped(JSON.stringify(one)),
    );
    assert.deepEqual(reread(lines), documents);
  });

  test("numbers, words and space", () => {
    assert.deepEqual(reread([' { "a" : [ 1 , -2, 1.5 , true, false , null ] } ']), [
      { a: [1, -2, "1.5", 1, 0, null] },
    ]);
  });

  test("rubbish is refused", () => {
    const rubbish = ['{"a":', '{"a" 1}', "[1,]", '"a', "{} {}", '"\\', "", "[".repeat(60)];
    for (const answer of reread(rubbish)) {
      assert.match((answer as { error: string }).error, /^JSON: /);
    }
  });

  function reread(lines: readonly string[]): unknown[] {
    const { stdout } = spawnSync("perl", [script], { input: `${lines.join("\n")}\n` });
    return stdout
      .toString()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown);
  }

  function escaped(json: string): string {
    return json.replace(
      /[\u007f-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
  }
});

describe("the program inside", () => {
  test("its files, environment, folder, output and status", async (t) => {
    const guest = await Guest.start(t, {
      files: [
        {
          path: "deep/er/run",
          mode: 0o750,
          content: '#!/bin/sh\necho "$GREETING ä"\npwd\nexit 7\n',
        },
      ],
      command: ["{folder}/program/deep/er/run"],
      environment: { GREETING: "hello" },
    });
    assert.deepEqual(await guest.exit(), { exitCode: 7, signal: null, reason: "exited" });
    assert.equal(guest.logged, `hello ä\n${guest.folder}/work\n`);
    const { mode } = await stat(join(guest.folder, "program/deep/er/run"));
    assert.equal(mode & 0o7777, 0o750);
  });

  test("a signal's end, and a command that is not there", async (t) => {
    const killed = await Guest.start(t, { command: ["sh", "-c", "kill -9 $$"] });
    assert.deepEqual(await killed.exit(), { exitCode: null, signal: 9, reason: "exited" });
    const absent = await Guest.start(t, { command: ["/no/such/thing"] });
    const { reason, detail } = await absent.exit();
    assert.equal(reason, "error");
    assert.match(String(detail), /^\/no\/such\/thing cannot be run: No such file/);
  });

  test("no file outside its folder", async (t) => {
    for (const path of ["../up", "a/../../up", "/etc/up", "a//b", "a/", "."]) {
      const guest = await Guest.start(t, { files: [{ path, mode: 0o600, content: "x" }] });
      assert.equal((await guest.exit()).detail, "a file's path is strange\n", path);
    }
  });

  test("it is asked to end, and ends in its own way", async (t) => {
    const command = [
      "sh",
      "-c",
      "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done",
    ];
    const guest = await Guest.start(t, { command });
    await guest.until(() => guest.logged.includes("up"));
    guest.send(frameTypes.end, 0, "");
    assert.deepEqual(await guest.exit(), { exitCode: 5, signal: null, reason: "ended" });
    assert.match(guest.logged, /bye/);
  });

  test("its deadline ends it", async (t) => {
    const guest = await Guest.start(t, { command: ["sleep", "600"], deadlineSeconds: 1 });
    assert.deepEqual(await guest.exit(), { exitCode: null, signal: 15, reason: "deadline" });
  });

  test("a flood of output is cut, and does not hold it up", async (t) => {
    const guest = await Guest.start(t, {
      command: ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; exit 4"],
    });
    assert.equal((await guest.exit()).exitCode, 4);
    assert.equal(guest.logged.slice(65_536), "\n[it prints more than is kept]\n");
    assert.equal(guest.logged.slice(0, 65_536), "x".repeat(65_536));
  });

  test("output of just what is kept is not said to be cut", async (t) => {
    const command = ["sh", "-c", "head -c 65536 /dev/zero | tr '\\0' x"];
    const guest = await Guest.start(t, { command });
    assert.equal((await guest.exit()).exitCode, 0);
    assert.equal(guest.logged.length, 65_536);
  });

  test("one that is larger than a frame comes in several", async (t) => {
    const content = "é\n".repeat(200_000);
    const guest = await Guest.start(t, {
      files: [{ path: "large", mode: 0o644, content }],
      command: ["true"],
    });
    assert.equal((await guest.exit()).exitCode, 0);
    assert.equal(await readFile(join(guest.folder, "program/large"), "utf8"), content);
  });
});

describe("the relay inside", () => {
  test("both directions whole and in order, each closed on its own", async (t) => {
    const size = 2_000_000;
    const guest = await Guest.start(t, {
      command: client(`
      my $sent = join '', map { chr(65 + $_ % 26) } 1 .. ${size};
      if (!fork) { print $s $sent; close $s; exit }
      my $got = do { local $/; <$s> };
      exit($got eq lc $sent ? 0 : 1);
    `),
    });
    let heard = 0;
    guest.onFrame = ({ type, stream, payload }) => {
      if (type === frameTypes.data) {
        heard += payload.length;
        guest.send(frameTypes.credit, stream, word(payload.length));
        guest.sendData(stream, payload.toString("latin1").toLowerCase());
        // Only what it was sent ends the other way: the client still waits for the rest.
        if (heard === size) guest.sendClose(stream);
      }
    };
    assert.deepEqual(await guest.exit(), { exitCode: 0, signal: null, reason: "exited" });
    assert.equal(heard, size);
  });

  test("nothing beyond its credit is sent", async (t) => {
    const guest = await Guest.start(t, {
      command: client(`
      print $s 'x' x 1_000_000; close $s;
    `),
    });
    let heard = 0;
    let stream = 0;
    guest.onFrame = (frame) => {
      if (frame.type === frameTypes.open) stream = frame.stream;
      if (frame.type === frameTypes.data) heard += frame.payload.length;
    };
    await guest.until(() => heard >= creditBytes);
    // Whatever it would wrongly send would come before the answer to this.
    guest.send(frameTypes.credit, stream, word(1_000));
    await guest.until(() => heard >= creditBytes + 1_000);
    assert.equal(heard, creditBytes + 1_000);
    guest.send(frameTypes.credit, stream, word(2_000_000));
    assert.equal((await guest.exit()).exitCode, 0);
    assert.equal(heard, 1_000_000);
  });

  test("many connections, each its own stream, and no more than 64 at once", async (t) => {
    const guest = await Guest.start(t, {
      command: client(`
      my @all = map { join_guest() } 1 .. 100;
      my $n = 0;
      for (@all) { print $_ $n++, "\\n" }
      for (0 .. 99) { my $line = readline $all[$_]; exit 1 if $line ne "$_\\n"; close $all[$_] }
    `),
    });
    const open = new Set<number>();
    let most = 0;
    guest.onFrame = ({ type, stream, payload }) => {
      if (type === frameTypes.open) {
        assert.ok(!open.has(stream));
        most = Math.max(most, open.add(stream).size);
      }
      if (type === frameTypes.data) {
        guest.sendData(stream, payload);
        guest.sendClose(stream);
      }
      if (type === frameTypes.close) open.delete(stream);
    };
    assert.equal((await guest.exit()).exitCode, 0);
    assert.ok(most <= 64, `${most} were open at once`);
  });

  test("a client that goes away does not trouble the others", async (t) => {
    const guest = await Guest.start(t, {
      command: client(`
      close $s;
      my $other = join_guest();
      print $other "still here\\n";
      exit(readline($other) eq "yes\\n" ? 0 : 1);
    `),
    });
    guest.onFrame = ({ type, stream, payload }) => {
      if (type === frameTypes.open && stream === 1) guest.sendData(stream, "x".repeat(200_000));
      if (type === frameTypes.data && payload.includes("still")) guest.sendData(stream, "yes\n");
      if (type === frameTypes.close) guest.sendClose(stream);
    };
    assert.equal((await guest.exit()).exitCode, 0);
  });

  test("a host that breaks the rules is an error, not a hang", async (t) => {
    const bad = [
      encodeFrame(frameTypes.data, 99, "x"),
      encodeFrame(77, 0, ""),
      Buffer.from([3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (const bytes of bad) {
      const guest = await Guest.start(t, { command: ["sh", "-c", "echo up; exec sleep 100"] });
      await guest.until(() => guest.logged.includes("up"));
      guest.port.write(bytes);
      assert.equal((await guest.exit()).reason, "error");
    }
  });
});

describe("the empty file system inside", () => {
  const tool = ["/sbin", "/usr/sbin"].find((folder) => existsSync(join(folder, "e2fsck")));
  const skip = tool === undefined ? "e2fsck is not installed" : false;

  test("its pieces are all of it, whatever was on the disk", { skip }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "inside-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const bytes = 200 * 2 ** 20;
    // An encrypted disk that nobody has written to reads as noise.
    const noise = createWriteStream(join(folder, "disk"));
    for (let at = 0; at < bytes; at += 2 ** 20) noise.write(randomBytes(2 ** 20));
    await new Promise<void>((done) => noise.end(() => done()));
    const perl = `
      use strict; require Scratch;
      open my $blank, '>', "$ARGV[0]/blank" or die; truncate $blank, ${bytes}; close $blank;
      system('${tool}/mke2fs', Scratch::blank_options(), "$ARGV[0]/blank") == 0 or die;
      my @pieces = Scratch::pieces("$ARGV[0]/blank");
      Scratch::write_pieces("$ARGV[0]/disk", @pieces);
      my $sum = 0; $sum += length $_->[1] for @pieces; print $sum;
    `;
    const inside = ["-I", import.meta.dirname, "-e", perl, folder];
    const written = spawnSync("perl", inside, { encoding: "utf8" });
    assert.equal(written.status, 0, written.stderr);
    assert.ok(Number(written.stdout) > 4_096 && Number(written.stdout) < 2 ** 20, written.stdout);
    const checked = spawnSync(`${tool}/e2fsck`, ["-f", "-n", join(folder, "disk")]);
    assert.equal(checked.status, 0, checked.stdout.toString());
  });
});

/** A program in Perl with `$s`, a connection to the guest socket. */
function client(body: string): string[] {
  const begin = `
    use strict; $SIG{PIPE} = 'IGNORE';
    sub join_guest {
      socket my $s, 1, 1, 0; connect $s, pack 'S a108', 1, '{folder}/guest.sock' or die "$!";
      select((select($s), $| = 1)[0]); return $s;
    }
    my $s = join_guest();
  `;
  return ["perl", "-e", begin + body];
}

function word(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return bytes;
}

interface Work {
  readonly files?: readonly { path: string; mode: number; content: string }[];
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly deadlineSeconds?: number;
}

/** The inside as an ordinary process, and a host end that keeps to the credit it is given. */
class Guest {
  readonly folder: string;
  readonly port: Duplex;
  onFrame: (frame: Frame) => void = () => {};
  logged = "";
  readonly #reader = new FrameReader();
  readonly #exit = Promise.withResolvers<Record<string, unknown>>();
  readonly #out = new Map<number, { credit: number; waiting: Buffer; closes: boolean }>();
  #bell = Promise.withResolvers<void>();

  static async start(t: TestContext, work: Work): Promise<Guest> {
    const folder = await mkdtemp(join(tmpdir(), "inside-"));
    const child = spawn("perl", [script, folder], {
      stdio: ["ignore", "inherit", "inherit", "pipe"],
    });
    t.after(async () => {
      child.kill("SIGKILL");
      await rm(folder, { recursive: true, force: true });
    });
    return new Guest(folder, child, work);
  }

  private constructor(folder: string, child: ChildProcess, work: Work) {
    this.folder = folder;
    this.port = child.stdio[3] as Duplex;
    this.port.on("error", () => {});
    this.port.on("data", (bytes: Buffer) => this.#reader.take(bytes).forEach((f) => this.#hear(f)));
    child.on("exit", () => this.#exit.reject(new Error("the inside ended without an EXIT")));
    this.#exit.promise.catch(() => {});
    const { files = [], command = ["true"], environment = {}, deadlineSeconds = 600 } = work;
    const placed = command.map((one) => one.replaceAll("{folder}", folder));
    const order = { files, command: placed, environment, deadlineSeconds };
    const json = Buffer.from(JSON.stringify(order));
    for (let at = 0; at < json.length; at += 65_536) {
      const isLast = at + 65_536 >= json.length;
      this.send(frameTypes.program, isLast ? 0 : 1, json.subarray(at, at + 65_536));
    }
  }

  send(type: number, stream: number, payload: Uint8Array | string): void {
    this.port.write(encodeFrame(type, stream, payload));
  }

  sendData(stream: number, data: Uint8Array | string): void {
    const out = this.#stream(stream);
    out.waiting = Buffer.concat([out.waiting, Buffer.from(data as string)]);
    this.#flush(stream);
  }

  sendClose(stream: number): void {
    this.#stream(stream).closes = true;
    this.#flush(stream);
  }

  exit(): Promise<Record<string, unknown>> {
    return this.#exit.promise;
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      this.#bell = Promise.withResolvers();
      await Promise.race([this.#bell.promise, this.#exit.promise]);
    }
  }

  #stream(id: number): { credit: number; waiting: Buffer; closes: boolean } {
    const known = this.#out.get(id) ?? {
      credit: creditBytes,
      waiting: Buffer.alloc(0),
      closes: false,
    };
    this.#out.set(id, known);
    return known;
  }

  #flush(id: number): void {
    const out = this.#stream(id);
    while (out.credit > 0 && out.waiting.length > 0) {
      const part = out.waiting.subarray(0, Math.min(out.credit, 65_536));
      out.waiting = out.waiting.subarray(part.length);
      out.credit -= part.length;
      this.send(frameTypes.data, id, part);
    }
    if (!out.closes || out.waiting.length > 0) return;
    out.closes = false;
    this.send(frameTypes.close, id, "");
  }

  #hear(frame: Frame): void {
    const { type, stream, payload } = frame;
    if (type === frameTypes.log) this.logged += payload.toString();
    if (type === frameTypes.credit) {
      this.#stream(stream).credit += payload.readUInt32BE(0);
      this.#flush(stream);
    }
    this.onFrame(frame);
    if (type === frameTypes.exit) {
      this.#exit.resolve(JSON.parse(payload.toString()) as Record<string, unknown>);
    }
    this.#bell.resolve();
  }
}
