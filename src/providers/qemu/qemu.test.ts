import assert from "node:assert/strict";
import {
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  open as openFile,
  readFile,
  readdir,
  rm,
  symlink,
} from "node:fs/promises";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { conformance } from "../conformance.ts";
import { destroyed, listed, never, until, World } from "../conformance-world.ts";
import { isAlive, processesWith } from "../processes.ts";
import type { MachineSpec, Provider, ProviderContext } from "../provider.ts";
import { keeperOf, markerOf } from "./machine-folder.ts";
import { qemuOptions, type QemuOptions } from "./options.ts";
import { open } from "./qemu.ts";
import { imageForTests } from "./testing.ts";

const image = await imageForTests();
const skip = typeof image === "string" ? image : false;
const from = typeof image === "string" ? undefined : image.folder;
const module = new URL("qemu.ts", import.meta.url).href;
const timeout = 300_000;
// The host of the tests may be as busy as it likes.
const options = qemuOptions.parse({ image: from, cpuPressureMax: 100, snapshot: false });

/** Processes that still have a machine's mark. */
async function leftovers(name: string): Promise<string[]> {
  const left = await readdir("/proc");
  const found: string[] = [];
  for (const pid of left.filter((entry) => /^\d+$/.test(entry))) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.includes(`guest=${name}\0`)) found.push(`${pid} ${name}`);
  }
  return found;
}

conformance({ name: "qemu, each booted", module, options, skip, leftovers });

/** All worlds share one folder of templates, so that one machine boots for all of them. */
const shared = await mkdtemp(join(tmpdir(), "mayfly-templates-"));
const sharedTemplates = join(shared, "templates");
await mkdir(sharedTemplates);
after(() => rm(shared, { recursive: true, force: true }));
const restoring = { ...options, snapshot: true };

async function opened(context: ProviderContext, more: QemuOptions = restoring): Promise<Provider> {
  await symlink(sharedTemplates, join(context.folder, "templates")).catch(() => {});
  const probed = join(shared, "accelerator.json");
  await copyFile(probed, join(context.folder, "accelerator.json")).catch(() => {});
  const provider = await open(more, context);
  await copyFile(join(context.folder, "accelerator.json"), probed).catch(() => {});
  return provider;
}

if (skip === false) await makeTemplate();

async function makeTemplate(): Promise<void> {
  const world = await World.make((context) => opened(context));
  try {
    const provider = await world.open();
    const spec = world.spec("1", provider);
    await provider.create(spec, world.program(spec.name, "stay"), never);
    await until("a template", async () =>
      (await readdir(sharedTemplates)).some((name) => name[0] !== "."),
    );
  } finally {
    await world.close();
  }
}

conformance({
  name: "qemu, each restored",
  module,
  options: restoring,
  skip,
  leftovers,
  open: (context) => opened(context),
});

describe("a machine of qemu", { skip, timeout }, () => {
  let world: World;
  let provider: Provider;
  let machines = 0;
  const told: { fields: object; message: string }[] = [];

  before(async () => {
    const warn = (fields: object, message: string) => told.push({ fields, message });
    const log = { info: () => {}, warn };
    world = await World.make((context) => opened({ ...context, log }));
    provider = await world.open();
  });
  after(async () => assert.deepEqual(await world.close(), []));

  const folderOf = (spec: MachineSpec) => join(world.context().folder, "machines", spec.name);

  async function begin(script: string, more: Partial<MachineSpec> = {}): Promise<MachineSpec> {
    const spec = { ...world.spec(`${++machines}`, provider), ...more };
    const command = ["/bin/sh", "-c", script];
    await provider.create(
      spec,
      { files: [], command, environment: {}, deadlineSeconds: 60 },
      never,
    );
    return spec;
  }

  /** Runs a script in a machine to its end: what it wrote, how it ended, and what we were told. */
  async function say(script: string, more: Partial<MachineSpec> = {}) {
    const spec = await begin(script, more);
    await until("its end", async () => (await listed(provider, spec.name))[0]?.state === "ended");
    const exitCode = (await listed(provider, spec.name))[0]?.exitCode ?? null;
    const log = await readFile(join(folderOf(spec), "log"), "utf8").catch(() => "");
    const warning = told.find(({ fields }) => "machine" in fields && fields.machine === spec.name);
    await destroyed(provider, spec.name);
    return { log, exitCode, warning };
  }

  it("has its own kernel, its name, the right time and a disk of its size", async () => {
    const { log, exitCode } = await say("uname -n; date +%s; df -BM --output=size / | tail -n 1");
    assert.equal(exitCode, 0);
    const [name, seconds, size] = log.split("\n");
    assert.equal(name, `${world.installation}-${machines}`);
    assert.ok(Math.abs(Number(seconds) - Date.now() / 1000) < 60);
    const megabytes = Number.parseInt(size ?? "", 10);
    assert.ok(megabytes > 900 && megabytes <= 1024, `${megabytes} MB`);
  });

  it("draws other randomness than a machine from the same template", async () => {
    const script = "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid";
    const [one, other] = [await say(script), await say(script)];
    assert.equal(one.exitCode, 0);
    const lines = [...one.log.split("\n"), ...other.log.split("\n")].filter((line) => line !== "");
    assert.equal(lines.length, 4);
    assert.equal(new Set(lines).size, 4);
  });

  it("gets an error when its disk is full, and the host's file stays within its size", async () => {
    const { log, exitCode } = await say("dd if=/dev/zero of=/work/full bs=1M 2>&1; rm /work/full");
    assert.equal(exitCode, 0);
    assert.match(log, /No space left/);
  });

  it("tells a kernel's panic from a restart", async () => {
    const panicked = await say("echo c >/proc/sysrq-trigger; sleep 60");
    assert.equal(panicked.exitCode, null);
    assert.equal((panicked.warning?.fields as { end?: string } | undefined)?.end, "panic");
    const restarted = await say("echo b >/proc/sysrq-trigger; sleep 60");
    assert.equal(restarted.exitCode, null);
    assert.match(restarted.warning?.message ?? "", /the guest restarted/);
  });

  it("ends with its keeper, whatever kills that, and nothing is left", async () => {
    const spec = await begin("sleep 1000");
    const keeper = await keeperOf(folderOf(spec));
    process.kill(keeper!.pid, "SIGKILL");
    await until("its end", async () => (await listed(provider, spec.name))[0]?.state === "ended");
    await until("QEMU's end", async () => (await leftovers(spec.name)).length === 0);
    assert.deepEqual(await processesWith(markerOf(folderOf(spec))), []);
    await destroyed(provider, spec.name);
  });

  it("is ended though its keeper is stopped", async () => {
    const spec = await begin("sleep 1000");
    const keeper = await keeperOf(folderOf(spec));
    process.kill(keeper!.pid, "SIGSTOP");
    await destroyed(provider, spec.name);
    assert.equal(await isAlive(keeper!), false);
    assert.deepEqual(await leftovers(spec.name), []);
  });

  it("reaches no host from a strangers' job, and has no card unless asked", async () => {
    let connections = 0;
    const server = createServer((_, answer) => answer.end());
    server.on("connection", () => (connections += 1)).listen(0, "0.0.0.0");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const own = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
    const address = own.find(({ family, internal }) => family === "IPv4" && !internal)?.address;
    const places = ["10.0.2.2", "127.0.0.1", ...(address === undefined ? [] : [address])];
    const tries = [
      ...places.map((place) => `${place}:${port}`),
      ...["169.254.169.254:80", "10.0.2.3:53", "192.168.0.1:80", "1.1.1.1:443"],
    ];
    const script = `perl -MIO::Socket::INET -e 'for (@ARGV) {
      my $is = IO::Socket::INET->new(PeerAddr => $_, Timeout => 3) ? "open" : "closed";
      print "$_ $is\\n" }' ${tries.join(" ")}; ls /sys/class/net`;
    try {
      const closed = await say(script, { network: true, trust: ["trusted", "fork"] });
      assert.equal(closed.exitCode, 0, closed.log);
      for (const each of tries) assert.ok(closed.log.includes(`${each} closed\n`), closed.log);
      assert.match(closed.log, /^eth0$/m);
      assert.equal(connections, 0);
      const none = await say(script);
      assert.doesNotMatch(none.log, /eth0|open/);
      // That the test can see an open way at all: a trusted job has the host's network.
      const open = await say(script, { network: true });
      assert.ok(open.log.includes(`10.0.2.2:${port} open\n`), open.log);
      assert.ok(connections > 0);
    } finally {
      server.close();
    }
  });

  it("is not made of an image of which one byte is another", async () => {
    const damaged = join(shared, "damaged");
    await cp(from!, damaged, { recursive: true });
    await rm(join(damaged, "verified.json"), { force: true });
    const worse = await world.open();
    const by = await opened(world.context(), { ...restoring, image: damaged });
    const spec = world.spec("damaged", by);
    const program = world.program(spec.name, "stay");
    await by.create(spec, program, never);
    await destroyed(by, spec.name);
    const file = await openFile(join(damaged, "base.img"), "r+");
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 1_000_000);
    await file.write(Buffer.from([buffer[0]! ^ 1]), 0, 1, 1_000_000);
    await file.close();
    const refused = by.create(spec, program, never);
    await assert.rejects(refused, { kind: "invalid", message: /base\.img is damaged/ });
    assert.deepEqual(await worse.list(never), []);
    const checks = await by.check(never);
    assert.equal(checks.find(({ name }) => name === "image")?.ok, false);
    await by.close();
  });

  it("is refused where the host cannot carry it", async () => {
    const reserveMemoryMb = 1024 * 1024 * 1024;
    const by = await opened(world.context(), { ...restoring, reserveMemoryMb });
    const spec = world.spec("large", by);
    const refused = by.create(spec, world.program(spec.name, "stay"), never);
    await assert.rejects(refused, { kind: "no_capacity", message: /memory are free/ });
    assert.deepEqual(await by.list(never), []);
    await by.close();
  });
});
