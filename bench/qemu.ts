import { mkdtempSync, rmSync } from "node:fs";
import { mkdir, readFile, stat } from "node:fs/promises";
import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Program } from "../src/domain/program.ts";
import type { MachineSpec, Provider, ProviderContext } from "../src/providers/provider.ts";
import { encodeFrame, frameTypes, payloadBytesMax } from "../src/providers/qemu/frames.ts";
import { guestOf, programOf, scratchBytesOf } from "../src/providers/qemu/guests.ts";
import type { StoredImage } from "../src/providers/qemu/image/manifest.ts";
import { overseerOf } from "../src/providers/overseer.ts";
import { makeScratch } from "../src/providers/qemu/machine-folder.ts";
import { qemuOptions, type QemuOptions } from "../src/providers/qemu/options.ts";
import { open } from "../src/providers/qemu/qemu.ts";
import { Qemu } from "../src/providers/qemu/run.ts";
import { imageForTests } from "../src/providers/qemu/testing.ts";
import { median, type Bench, type Measure } from "./measure.ts";

const rounds = 7;
const bytes = 200_000_000;
const never = new AbortController().signal;

/**
 * Machines beside bare QEMUs of the same kernel, image, size and accelerator; in turn, so that
 * whatever else the host does hits both.
 */
export const qemu: Bench = {
  name: "qemu",
  about:
    "a machine of QEMU beside a bare one: to its program's first word, its channel, its keeper",
  run: async () => {
    const image = await imageForTests();
    if (typeof image === "string") throw new Error(`no machine can be made here: ${image}`);
    const stand = await Stand.make(image);
    try {
      return [...(await boots(stand)), await channel(stand), await idle(stand)];
    } finally {
      await stand.close();
    }
  },
};

/** A folder of state with two providers: machines that boot, and copies. */
class Stand {
  readonly folder = mkdtempSync(join(tmpdir(), "mayfly-bench-"));
  readonly image: StoredImage;
  readonly options: QemuOptions;
  cold!: Provider;
  copies!: Provider;
  #names = 0;

  private constructor(image: StoredImage) {
    this.image = image;
    // The host may be as busy as it likes, since both sides are.
    this.options = qemuOptions.parse({ image: image.folder, cpuPressureMax: 100 });
  }

  static async make(image: StoredImage): Promise<Stand> {
    const stand = new Stand(image);
    await mkdir(join(stand.folder, "guest"));
    await mkdir(stand.#context().folder);
    stand.cold = await open({ ...stand.options, snapshot: false }, stand.#context());
    stand.copies = await open(stand.options, stand.#context());
    return stand;
  }

  spec(): MachineSpec {
    const architecture = this.image.architecture;
    const size = { cpu: 1, memoryMb: 1024, diskGb: 10, gpu: 0, architecture };
    const name = `bench-${++this.#names}`;
    return { name, size, image: null, network: false, trust: ["trusted"] };
  }

  folderOf(spec: MachineSpec): string {
    return join(this.#context().folder, "machines", spec.name);
  }

  async end(provider: Provider, { name }: MachineSpec): Promise<void> {
    while ((await provider.destroy(name, never)) !== "gone");
  }

  async close(): Promise<void> {
    for (const provider of [this.cold, this.copies]) {
      for (const { name } of await provider.list(never)) await provider.destroy(name, never);
      await provider.close();
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  #context(): ProviderContext {
    return {
      name: "bench",
      installation: "bench",
      folder: join(this.folder, "provider"),
      guestFolder: join(this.folder, "guest"),
      stateFolder: this.folder,
      now: () => Date.now(),
      log: { info: () => {}, warn: () => {} },
    };
  }
}

function programFor(...command: [string, ...string[]]): Program {
  return { files: [], command, environment: {}, deadlineSeconds: 600 };
}

/** How long from asking for a machine to its program's first word, ms. */
async function wordOf(stand: Stand, provider: Provider): Promise<number> {
  const spec = stand.spec();
  const log = join(stand.folderOf(spec), "log");
  const began = performance.now();
  await provider.create(spec, programFor("/bin/echo", "up"), never);
  while ((await stat(log).catch(() => null)) === null) await sleep(2);
  const tookMs = performance.now() - began;
  await stand.end(provider, spec);
  return tookMs;
}

/** A QEMU that nothing of ours watches, until its program's first word; and what it then is. */
async function bare(stand: Stand, options: QemuOptions, program: Program): Promise<Qemu> {
  const folder = mkdtempSync(join(stand.folder, "bare-"));
  const spec = stand.spec();
  const guest = await guestOf(spec, stand.image, options, join(stand.folder, "provider"), never);
  await makeScratch(folder, scratchBytesOf(spec, options) ?? 0);
  const started = await Qemu.start(guest, folder);
  await started.heard(frameTypes.ready, never);
  const given = JSON.parse(programOf(spec, program, options)) as object;
  const text = JSON.stringify({ ...given, timeMs: Date.now() });
  if (text.length > payloadBytesMax) throw new RangeError("a program of more than one frame");
  started.channel.write(encodeFrame(frameTypes.program, 0, text));
  await started.heard(frameTypes.log, never);
  return started;
}

async function bareWord(stand: Stand): Promise<number> {
  const began = performance.now();
  const started = await bare(stand, stand.options, programFor("/bin/echo", "up"));
  const tookMs = performance.now() - began;
  await started.end();
  return tookMs;
}

async function boots(stand: Stand): Promise<Measure[]> {
  // The first copy waits until what it is a copy of has booted.
  await wordOf(stand, stand.copies);
  const [theirs, cold, copied]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < rounds; round += 1) {
    theirs.push(await bareWord(stand));
    cold.push(await wordOf(stand, stand.cold));
    copied.push(await wordOf(stand, stand.copies));
  }
  const shared = { unit: "ms", sense: "at most" } as const;
  return [
    {
      ...shared,
      name: "a machine that boots, to its program's first word, encryption included",
      value: median(cold),
      limit: median(theirs),
      limitName: "a bare QEMU, as far",
      goal: 1.15,
    },
    {
      ...shared,
      name: "a copy of a booted machine, new randomness and encryption included",
      value: median(copied),
      limit: median(cold),
      limitName: "one that boots",
      goal: 0.25,
    },
  ];
}

/** What the program writes is counted from the first of it on, MB/s. */
async function channel(stand: Stand): Promise<Measure> {
  const device = await deviceRate(stand);
  const value = await streamRate(stand);
  return {
    name: "a stream out of a machine",
    value,
    unit: "MB/s",
    limit: Math.min(50, device),
    limitName: `the lesser of 50 and what the bare device takes, ${device.toFixed(0)}`,
    sense: "at least",
    goal: 1,
  };
}

/** Zeros over a stream to the guests' socket. */
async function streamRate(stand: Stand): Promise<number> {
  const server = createServer();
  server.listen(join(stand.folder, "guest", "guest.sock"));
  const script = `use IO::Socket::UNIX; my $to = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die;
    my $zeros = "\\0" x 262144; for (1 .. ${Math.ceil(bytes / 262_144)}) { my $at = 0;
      while ($at < length $zeros) { $at += syswrite $to, $zeros, length($zeros) - $at, $at } }`;
  const spec = stand.spec();
  const connected = once(server, "connection");
  await stand.copies.create(spec, programFor("perl", "-e", script, "{guest}"), never);
  const [socket] = (await connected) as [NodeJS.ReadableStream];
  const rate = await rateOf(socket);
  server.close();
  await stand.end(stand.copies, spec);
  return rate;
}

/** Zeros straight into the port, past all that is ours, by a copy of its descriptor. */
async function deviceRate(stand: Stand): Promise<number> {
  const script = `$| = 1; print "up\\n"; sleep 1; my $init = syscall 434, 1, 0; my $zeros = "\\0" x 262144;
    for (3 .. 30) { my $copy = syscall 438, $init, $_, 0; next if $copy < 0;
      next if readlink("/proc/self/fd/$copy") !~ /vport/; open my $port, ">&=", $copy;
      while (1) { syswrite $port, $zeros or select undef, undef, undef, 0.0005 } }`;
  const started = await bare(stand, stand.options, programFor("perl", "-e", script));
  const raw = started.channel;
  raw.removeAllListeners("data");
  const rate = await rateOf(raw);
  await started.end();
  return rate;
}

async function rateOf(stream: NodeJS.ReadableStream): Promise<number> {
  let seen = 0;
  let before = 0;
  let began = 0;
  return new Promise((resolve) => {
    const over = (): void => resolve((seen - before) / 1e6 / ((performance.now() - began) / 1000));
    stream.on("data", (chunk: Buffer) => {
      seen += chunk.length;
      if (began === 0 && seen >= 1_000_000) [began, before] = [performance.now(), seen];
      if (seen > bytes) over();
    });
    stream.on("end", over);
  });
}

/** What stands over an idle machine besides QEMU, MB. */
async function idle(stand: Stand): Promise<Measure> {
  const spec = stand.spec();
  await stand.copies.create(spec, programFor("/bin/sleep", "1000"), never);
  const given = join(stand.folderOf(spec), "given");
  while ((await stat(given).catch(() => null)) === null) await sleep(20);
  const keeper = await overseerOf(stand.folderOf(spec));
  const status = await readFile(`/proc/${keeper?.pid ?? 0}/status`, "utf8");
  const kilobytes = Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1]);
  await stand.end(stand.copies, spec);
  return {
    name: "the keeper of an idle machine, resident",
    value: kilobytes / 1024,
    unit: "MB",
    limit: 10,
    limitName: "10 MB over a bare QEMU",
    sense: "at most",
    goal: 1,
  };
}
