import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { firstLine, lastWords, runTool } from "../child.ts";
import { destroyed, listed, never, until, World } from "../conformance-world.ts";
import { hasTool, hostSuite, lock } from "../debian.ts";
import { bareEnvironment, hostArchitecture } from "../local.ts";
import type { MachineSpec, Provider, ProviderContext } from "../provider.ts";
import { qemuBinary } from "./arguments.ts";
import { buildImage } from "./image/build.ts";
import { findImage } from "./image/images.ts";
import type { StoredImage } from "./image/manifest.ts";
import { qemuOptions, type QemuOptions } from "./options.ts";
import { open } from "./qemu.ts";

/*
 * What tests with real machines share: one image for all of them, and one template for each file.
 */

const cache = join(homedir(), ".cache", "mayfly-test", "images");
/** An emulated machine on a busy host boots, and does anything at all, slowly. */
const patienceMs = 250_000;
const keptMs = 7 * 24 * 3600 * 1000;

/**
 * The image that tests boot, or why there can be none. The first test to ask builds it, which takes
 * about a minute; it stays for later runs until anything that makes it changes. A folder of images
 * in MAYFLY_TEST_IMAGES is taken as it is.
 */
export async function imageForTests(): Promise<StoredImage | string> {
  const architecture = hostArchitecture();
  if (process.platform !== "linux" || architecture === null) return "machines need Linux";
  const given = process.env["MAYFLY_TEST_IMAGES"];
  for (const tool of [qemuBinary(architecture), "perl", "setpriv", "flock"]) {
    if (!(await hasTool(tool))) return `${tool} is not installed`;
  }
  if (given !== undefined) return findImage(given, "minimal", architecture);
  const folder = join(cache, await sourcesKey());
  await mkdir(folder, { recursive: true });
  const unlock = await lock(join(folder, "turn"), never);
  try {
    const found = await findImage(folder, "minimal", architecture).catch(() => null);
    if (found !== null) return found;
    if (process.getuid?.() !== 0) return "only root makes images for tests";
    for (const tool of ["mmdebstrap", "mksquashfs", "depmod"]) {
      if (!(await hasTool(tool))) return `${tool} is not installed`;
    }
    await removeOld();
    const options = {
      folder,
      variant: "minimal",
      architecture,
      suite: null,
      forEc2: true,
    } as const;
    return await buildImage(options, (line) => console.log(`# ${line}`), never);
  } finally {
    unlock();
  }
}

/** Other sources make another image; so does another release of the host's system. */
async function sourcesKey(): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(await hostSuite()));
  for (const folder of ["image", "inside"].map((name) => join(import.meta.dirname, name))) {
    for (const name of (await readdir(folder)).toSorted()) {
      if (/\.test\.ts$|^testing\./.test(name)) continue;
      hash.update(name).update(await readFile(join(folder, name)));
    }
  }
  return hash.digest("hex").slice(0, 16);
}

async function removeOld(): Promise<void> {
  for (const name of await readdir(cache)) {
    const path = join(cache, name);
    const { mtimeMs } = await stat(path);
    if (Date.now() - mtimeMs > keptMs) await rm(path, { recursive: true, force: true });
  }
}

/** QEMUs that still run under a machine's name. */
export async function processesOf(name: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry))) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.includes(`guest=${name}\0`)) found.push(`${pid} ${name}`);
  }
  return found;
}

/** Opens providers that all copy the same booted machine. */
export class Stable {
  readonly options: QemuOptions;
  readonly folder: string;

  private constructor(folder: string, options: QemuOptions) {
    this.folder = folder;
    this.options = options;
  }

  /** Boots the machine that the others are copies of; not if `image` is a reason for none. */
  static async make(image: StoredImage | string, diskGb = 1): Promise<Stable> {
    const folder = await mkdtemp(join(tmpdir(), "mayfly-stable-"));
    // The host of the tests may be as busy as it likes.
    const parsed = { cpuPressureMax: 100, reserveMemoryMb: 0 };
    const from = typeof image === "string" ? {} : { image: image.folder };
    const stable = new Stable(folder, qemuOptions.parse({ ...parsed, ...from }));
    await mkdir(stable.#templates);
    if (typeof image !== "string") await stable.#boot(diskGb);
    return stable;
  }

  get #templates(): string {
    return join(this.folder, "templates");
  }

  async open(context: ProviderContext, more: Partial<QemuOptions> = {}): Promise<Provider> {
    await symlink(this.#templates, join(context.folder, "templates")).catch(() => {});
    const known = join(this.folder, "accelerator.json");
    const own = join(context.folder, "accelerator.json");
    await copyFile(known, own).catch(() => {});
    const provider = await open({ ...this.options, ...more }, context);
    await copyFile(own, known).catch(() => {});
    return provider;
  }

  async close(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }

  async #boot(diskGb: number): Promise<void> {
    const world = await World.make((context) => this.open(context));
    try {
      const provider = await world.open();
      const wanted = world.spec("1", provider);
      const spec = { ...wanted, size: { ...wanted.size, diskGb } };
      await provider.create(spec, world.program(spec.name, "stay"), never);
      const isThere = async (): Promise<boolean> =>
        (await readdir(this.#templates)).some((name) => name[0] !== ".");
      await until("a template", isThere, patienceMs);
    } finally {
      await world.close();
    }
  }
}

/** How a machine's script ended. */
export interface Said {
  /** What it printed. */
  readonly log: string;
  readonly exitCode: number | null;
  readonly end: string | null;
}

/** Runs shell scripts in machines of one provider. */
export class Scripts {
  readonly world: World;
  readonly provider: Provider;
  static #machines = 0;

  constructor(world: World, provider: Provider) {
    this.world = world;
    this.provider = provider;
  }

  /** The folder of a machine on the host. */
  folderOf({ name }: MachineSpec): string {
    return join(this.world.context().folder, "machines", name);
  }

  async begin(
    script: string,
    more: Partial<MachineSpec> = {},
    args: readonly string[] = [],
  ): Promise<MachineSpec> {
    const name = `${this.world.installation}-s${++Scripts.#machines}`;
    const spec = { ...this.world.spec("0", this.provider), name, ...more };
    const command: readonly [string, ...string[]] = ["/bin/sh", "-c", script, "sh", ...args];
    const program = { files: [], command, environment: {}, deadlineSeconds: 1_000 };
    await this.provider.create(spec, program, never);
    return spec;
  }

  /** What a machine has printed so far. */
  async log(spec: MachineSpec): Promise<string> {
    return readFile(join(this.folderOf(spec), "log"), "utf8").catch(() => "");
  }

  /** Waits until a machine has printed `words`. */
  async heard(spec: MachineSpec, words: string): Promise<void> {
    const isSaid = async (): Promise<boolean> => (await this.log(spec)).includes(words);
    await until(`${spec.name} to say ${words}`, isSaid, patienceMs);
  }

  async ended(spec: MachineSpec): Promise<Said> {
    const isOver = async (): Promise<boolean> => (await this.#seen(spec)).state === "ended";
    await until(`${spec.name} to end`, isOver, patienceMs);
    const { exitCode, end = null } = await this.#seen(spec);
    const log = await this.log(spec);
    await destroyed(this.provider, spec.name);
    return { log, exitCode, end };
  }

  /** Runs a script in a machine to its end. */
  async say(script: string, more: Partial<MachineSpec> = {}): Promise<Said> {
    return this.ended(await this.begin(script, more));
  }

  async #seen({ name }: MachineSpec) {
    const [machine] = await listed(this.provider, name);
    assert.ok(machine !== undefined, `${name} is listed`);
    return machine;
  }
}

/**
 * A network namespace next to this host, where one server answers at addresses of every kind, among
 * them one that looks public; so that a test reaches "the internet" without one. For root only.
 */
export class Neighbours {
  /** Public by its looks (of TEST-NET-3), and the port that all of them answer at. */
  readonly internet: string;
  readonly port: string;
  /** One address of each range that is nobody's on the internet. */
  readonly closed: readonly string[];
  /** Public by its looks, but this host's own, where it answers at `ownPort`. */
  readonly host: string;
  readonly ownPort: string;
  readonly #end: () => Promise<void>;

  private constructor(
    hosts: readonly [host: string, internet: string, ...closed: string[]],
    [port, ownPort]: readonly string[],
    end: () => Promise<void>,
  ) {
    [this.host, this.internet, ...this.closed] = hosts;
    [this.port = "", this.ownPort = ""] = [port, ownPort];
    this.#end = end;
  }

  /** Why there can be none, as words. */
  static async make(): Promise<Neighbours | string> {
    if (process.getuid?.() !== 0) return "only root makes network namespaces";
    if (!(await hasTool("ip"))) return "ip (iproute2) is not installed";
    const id = randomBytes(4).toString("hex");
    const [near, far] = [`mf${id}a`, `mf${id}b`];
    const [a, b] = randomBytes(2).map((byte) => (byte % 120) * 2 + 2);
    const hosts = [`203.0.113.${a}`, `203.0.113.${a! + 1}`] as const;
    const kinds = ["10.213", "172.29", "192.168", "100.99", "169.254", "198.18", "192.0.0"];
    const closed = kinds.map((kind) => (kind === "192.0.0" ? `${kind}.${a}` : `${kind}.${b}.${a}`));
    // The namespace is the first server's, and goes with it, and so do all routes there.
    const servers = [serve(["unshare", "--net", "--"]), serve([])];
    const end = async (): Promise<void> => {
      for (const server of servers) server.kill("SIGKILL");
      const isGone = async (): Promise<boolean> =>
        (await run(["ip", "link", "del", near])) !== null;
      await until(`${near} to be gone`, isGone, patienceMs);
    };
    const ports = await Promise.all(servers.map((server) => firstLine(server, never)));
    const { pid } = servers[0]!;
    const inside = (...args: string[]) => ["nsenter", `--target=${pid}`, "--net", "ip", ...args];
    const steps = [
      ["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", String(pid)],
      ["ip", "addr", "add", `${hosts[0]}/32`, "dev", near],
      ["ip", "link", "set", near, "up"],
      inside("link", "set", far, "up"),
      inside("route", "add", hosts[0], "dev", far),
      ...[hosts[1], ...closed].flatMap((address) => [
        inside("addr", "add", `${address}/32`, "dev", far),
        ["ip", "route", "add", address, "dev", near, "src", hosts[0]],
      ]),
    ];
    for (const step of steps) {
      const fault = await run(step);
      if (fault === null) continue;
      await end();
      return `no network namespace: ${step.join(" ")}: ${fault}`;
    }
    return new Neighbours([...hosts, ...closed], ports, end);
  }

  async close(): Promise<void> {
    await this.#end();
  }
}

/** What it complained of; null: it did as told. */
async function run([tool = "", ...args]: readonly string[]): Promise<string | null> {
  const environment = bareEnvironment();
  const { code, stderr } = await runTool(tool, args, { signal: never, environment, mend: "" });
  return code === 0 ? null : lastWords(stderr);
}

/** A server that closes whatever connects, says its port, and ends with us. */
function serve(before: readonly string[]): ChildProcess {
  const script = `process.stdin.on("end", () => process.exit()).resume();
    require("node:net").createServer((socket) => socket.on("error", () => {}).end())
      .listen(0, "0.0.0.0", function () { console.log(this.address().port); })`;
  const [tool, ...args] = [...before, process.execPath, "-e", script];
  return spawn(tool, args, { stdio: ["pipe", "pipe", "inherit"] });
}
