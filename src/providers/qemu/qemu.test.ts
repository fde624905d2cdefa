import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cp, mkdtemp, open as openFile, readdir, rm, stat, symlink } from "node:fs/promises";
import { once } from "node:events";
import { createServer, type AddressInfo, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { destroyed, listed, never, until, World } from "../conformance-world.ts";
import { isAlive, processesWith } from "../processes.ts";
import type { MachineSpec, Provider } from "../provider.ts";
import type { StoredImage } from "./image/manifest.ts";
import { markerOf, overseerOf } from "../overseer.ts";
import { qemuOptions } from "./options.ts";
import { open } from "./qemu.ts";
import { imageForTests, Neighbours, processesOf, Scripts, Stable } from "./testing.ts";

const image = await imageForTests();
const skip = typeof image === "string" ? image : false;
/** Of a test, and of all in a group together. */
const timeout = 600_000;
// Skipped tests aside, it is there.
const sound = image as StoredImage;
const stable = await Stable.make(image);
after(() => stable.close());

describe("a machine of qemu", { skip, timeout }, () => {
  let world: World;
  let provider: Provider;
  let scripts: Scripts;
  const told: { fields: object; message: string }[] = [];

  before(async () => {
    const warn = (fields: object, message: string) => told.push({ fields, message });
    const log = { info: () => {}, warn };
    world = await World.make((context) => stable.open({ ...context, log }));
    provider = await world.open();
    scripts = new Scripts(world, provider);
  });
  after(async () => assert.deepEqual(await world.close(), []));

  const say = (script: string, more?: Partial<MachineSpec>) => scripts.say(script, more);
  const begin = (script: string) => scripts.begin(script);
  const folderOf = (spec: MachineSpec) => scripts.folderOf(spec);

  it("has its own kernel, its name, the right time and a disk of its size", async () => {
    const before = Date.now();
    const spec = await begin("uname -n; date +%s; df -BM --output=size / | tail -n 1");
    const { log, exitCode } = await scripts.ended(spec);
    const after = Date.now();
    assert.equal(exitCode, 0);
    const [name, seconds, size] = log.split("\n");
    assert.equal(name, spec.name);
    const at = Number(seconds) * 1000;
    assert.ok(at > before - 60_000 && at < after + 60_000, seconds);
    const megabytes = Number.parseInt(size ?? "", 10);
    assert.ok(megabytes > 900 && megabytes <= 1024, `${megabytes} MB`);
  });

  it("boots for itself where it may not be a copy", async () => {
    const by = await stable.open(world.context(), { snapshot: false });
    const cold = new Scripts(world, by);
    const { log, exitCode } = await cold.say("echo up; exit 3");
    assert.deepEqual([log, exitCode], ["up\n", 3]);
    await by.close();
  });

  it("draws other randomness than a machine from the same template", async () => {
    const script = "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid";
    const [one, other] = [await say(script), await say(script)];
    assert.equal(one.exitCode, 0);
    const lines = [...one.log.split("\n"), ...other.log.split("\n")].filter((line) => line !== "");
    assert.equal(lines.length, 4);
    assert.equal(new Set(lines).size, 4);
  });

  it("keeps its program on the host no longer than it must", async () => {
    const spec = await begin("echo up; sleep 1000");
    await scripts.heard(spec, "up");
    assert.equal((await readdir(folderOf(spec))).includes("program"), false);
    await destroyed(provider, spec.name);
  });

  it("has the disk of its own size, an error when that is full, and no more of the host's", async () => {
    const by = await stable.open(world.context());
    const small = new Scripts(world, by);
    const size = { ...world.spec("0", by).size, diskGb: 0.0625 };
    const script = "dd if=/dev/zero of=/work/full bs=1M 2>&1; echo full; sleep 1000";
    const spec = await small.begin(script, { size });
    await small.heard(spec, "full\n");
    assert.match(await small.log(spec), /No space left/);
    const file = await stat(join(folderOf(spec), "scratch"));
    assert.equal(file.size, 2 ** 26);
    assert.ok(file.blocks * 512 <= file.size + 2 ** 20);
    await destroyed(by, spec.name);
    await by.close();
  });

  it("carries several at once, each with its own words and ports", async () => {
    const script = `perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(Listen => 1,
      LocalAddr => "127.0.0.1:8080") or die "taken"; $| = 1; print "$ARGV[0]\\n"; sleep 1000' $1`;
    const words = ["one", "two", "three", "four"];
    const specs = await Promise.all(words.map((word) => scripts.begin(script, {}, [word])));
    for (const [n, spec] of specs.entries()) {
      await scripts.heard(spec, `${words[n]}\n`);
      assert.equal(await scripts.log(spec), `${words[n]}\n`);
    }
    await Promise.all(specs.map(({ name }) => destroyed(provider, name)));
  });

  it("tells a panic, a restart, a power-off and its time's end apart", async () => {
    const panicked = await say("echo c >/proc/sysrq-trigger; sleep 1000");
    assert.deepEqual(
      [panicked.exitCode, panicked.end],
      [null, "its kernel panicked: sysrq triggered crash"],
    );
    const restarted = await say("echo b >/proc/sysrq-trigger; sleep 1000");
    assert.equal(restarted.end, "it was lost: the guest restarted");
    const off = await say("echo o >/proc/sysrq-trigger; sleep 1000");
    assert.equal(off.end, "it was lost: the guest powered off");
    const words = told.map(({ message }) => message);
    for (const { end } of [panicked, restarted, off]) assert.ok(words.includes(end!), end!);
    const spec = world.spec("late", provider);
    const command = ["/bin/sleep", "1000"] as const;
    const program = { files: [], command, environment: {}, deadlineSeconds: 1 };
    await provider.create(spec, program, never);
    assert.equal((await scripts.ended(spec)).end, "it was out of time");
    const missing = { ...program, command: ["/no/such"] as const };
    await provider.create(spec, missing, never);
    assert.match(
      (await scripts.ended(spec)).end ?? "",
      /^its program could not be run: .*\/no\/such/,
    );
  });

  it("survives a fork bomb, and so does the host", async () => {
    const spec = await begin("echo up; bomb() { bomb | bomb & }; bomb; sleep 1000");
    await scripts.heard(spec, "up");
    const keeper = await overseerOf(folderOf(spec));
    await destroyed(provider, spec.name);
    assert.equal(await isAlive(keeper!), false);
    assert.deepEqual(await processesOf(spec.name), []);
  });

  it("keeps the beginning of a flood of output, and its end", async () => {
    const { log, exitCode } = await say("head -c 30000000 /dev/zero | tr '\\0' x; exit 5");
    assert.equal(exitCode, 5);
    assert.ok(log.length >= 60_000 && log.length <= 65_536, `${log.length} bytes`);
  });

  it("is ended when its root takes the channel and writes rubbish to it", async () => {
    // pidfd_open and pidfd_getfd: a copy of a descriptor of the first process.
    const script = `perl -e 'my $init = syscall 434, 1, 0; for (3 .. 30) {
      my $copy = syscall 438, $init, $_, 0; next if $copy < 0;
      next if readlink("/proc/self/fd/$copy") !~ /vport/;
      open my $port, ">&=", $copy; syswrite $port, "\xff" x 100; print "written\n" }'; sleep 1000`;
    const { end, log } = await say(script);
    assert.equal(log, "");
    assert.match(end ?? "", /^it broke the protocol of its channel: a frame of \d{10} bytes$/);
  });

  it("is ended when it never gets ready", async () => {
    const by = await stable.open(world.context(), { snapshot: false, bootSeconds: 0.1 });
    const { end } = await new Scripts(world, by).say("true");
    assert.equal(end, "it did not boot: not ready after 0.1 s");
    await by.close();
  });

  it("ends with its keeper, whatever kills that, and nothing is left", async () => {
    const spec = await begin("sleep 1000");
    const keeper = await overseerOf(folderOf(spec));
    process.kill(keeper!.pid, "SIGKILL");
    await until("its end", async () => (await listed(provider, spec.name))[0]?.state === "ended");
    await until("QEMU's end", async () => (await processesOf(spec.name)).length === 0);
    assert.deepEqual(await processesWith(markerOf(folderOf(spec))), []);
    assert.equal((await scripts.ended(spec)).end, "it was lost: its keeper was killed");
  });

  it("is ended though its keeper is stopped", async () => {
    const spec = await begin("sleep 1000");
    const keeper = await overseerOf(folderOf(spec));
    process.kill(keeper!.pid, "SIGSTOP");
    await destroyed(provider, spec.name);
    assert.equal(await isAlive(keeper!), false);
    assert.deepEqual(await processesOf(spec.name), []);
  });

  it("ends with a manager that is killed, where it is not to outlive it", async () => {
    const spec = world.spec("short", provider);
    const { now: _now, log: _log, ...context } = world.context();
    const options = { ...stable.options, outlive: false };
    const program = {
      files: [],
      command: ["/bin/sleep", "1000"],
      environment: {},
      deadlineSeconds: 1_000,
    };
    const module = new URL("qemu.ts", import.meta.url).href;
    const order = { module, options, context, spec, program };
    const script = fileURLToPath(new URL("../conformance-manager.ts", import.meta.url));
    const stdio = ["ignore", "pipe", "inherit"] as const;
    const manager = spawn(process.execPath, [script, JSON.stringify(order)], { stdio: [...stdio] });
    const [first] = await once(manager.stdout.setEncoding("utf8"), "data");
    assert.equal(first, "made\n");
    const keeper = await overseerOf(folderOf(spec));
    assert.ok(keeper !== null && (await isAlive(keeper)));
    manager.kill("SIGKILL");
    await until("its end", async () => !(await isAlive(keeper)));
    assert.deepEqual(await processesOf(spec.name), []);
    assert.equal((await scripts.ended(spec)).end, "it was stopped: its parent ended");
  });

  const fork = { network: true, trust: ["trusted", "fork"] } as const;
  /**
   * Tells of each place, an address with a port, whether it is open. Those of `open` have as long as
   * a busy host may take to answer.
   */
  const knock = (
    places: readonly string[],
    open: readonly string[] = [],
  ) => `perl -MIO::Socket::INET -e 'my %open = map { $_ => 1 } qw(${open.join(" ")});
    for (@ARGV) { next if fork;
    my $is = IO::Socket::INET->new(PeerAddr => $_, Timeout => $open{$_} ? 90 : 8) ? "open" : "closed";
    print "$_ $is\\n"; exit } 1 while wait > 0' ${places.join(" ")}; ls /sys/class/net`;

  it("reaches no host from a strangers' job but where it may, and has no card unless asked", async () => {
    const connections = new Map<string, number>();
    const serve = async (): Promise<string> => {
      const server = createServer((socket) => socket.end());
      servers.push(server.listen(0, "0.0.0.0"));
      await once(server, "listening");
      const port = String((server.address() as AddressInfo).port);
      server.on("connection", () => connections.set(port, (connections.get(port) ?? 0) + 1));
      return port;
    };
    const servers: Server[] = [];
    const [port, allowed] = [await serve(), await serve()];
    // In a machine 10.0.2.0/24 is QEMU's; other tests' interfaces come and go.
    const own = Object.entries(networkInterfaces())
      .flatMap(([name, each = []]) => (/^(mf|veth|br|cni|podman)/.test(name) ? [] : each))
      .filter(({ family, internal }) => family === "IPv4" && !internal)
      .map(({ address }) => address)
      .filter((address) => !address.startsWith("10.0.2."))
      .slice(0, 1);
    const places = ["10.0.2.2", "127.0.0.1", ...own].map((place) => `${place}:${port}`);
    // Of the name server that QEMU plays, no port but that of names.
    places.push(`10.0.2.2:${allowed}`, `10.0.2.3:${port}`, `10.0.2.9:${port}`);
    const reach = own.map((address) => `${address}:${allowed}`);
    const by = await stable.open(world.context(), { reach });
    try {
      const closed = await new Scripts(world, by).say(knock([...places, ...reach], reach), fork);
      assert.equal(closed.exitCode, 0, closed.log);
      for (const each of places) assert.ok(closed.log.includes(`${each} closed\n`), closed.log);
      for (const each of reach) assert.ok(closed.log.includes(`${each} open\n`), closed.log);
      assert.match(closed.log, /^eth0$/m);
      assert.equal(connections.get(port), undefined);
      const none = await say(knock(places));
      assert.doesNotMatch(none.log, /eth0|open/);
      // That the test can see an open way at all: a trusted job has the host's network.
      const ours = [places[0]!, ...own.map((address) => `${address}:${port}`)];
      const open = await say(knock(places, ours), { network: true });
      for (const each of ours) {
        assert.ok(open.log.includes(`${each} open\n`), open.log);
      }
      assert.ok(connections.get(port)! > 0);
    } finally {
      for (const server of servers) server.close();
      await by.close();
    }
  });

  it("reaches the internet from a strangers' job, and what is private only where it may", async (t) => {
    const nearby = await Neighbours.make();
    if (typeof nearby === "string") return t.skip(nearby);
    try {
      const { host, internet, port } = nearby;
      const [allowed, ...others] = nearby.closed.map((address) => `${address}:${port}`);
      const by = await stable.open(world.context(), { reach: [allowed!] });
      const places = [`${internet}:${port}`, allowed!, ...others, `${host}:${nearby.ownPort}`];
      const { log } = await new Scripts(world, by).say(knock(places, places.slice(0, 2)), fork);
      for (const each of places.slice(0, 2)) assert.ok(log.includes(`${each} open\n`), log);
      for (const each of places.slice(2)) assert.ok(log.includes(`${each} closed\n`), log);
      await by.close();
      // All of them are there: a trusted job reaches them.
      const open = await say(knock(places, places), { network: true });
      for (const each of places) assert.ok(open.log.includes(`${each} open\n`), open.log);
    } finally {
      await nearby.close();
    }
  });

  it("is not made of an image of which one byte is another", async () => {
    const damaged = join(stable.folder, "damaged");
    await cp(sound.folder, damaged, { recursive: true });
    const path = join(damaged, "base.img");
    const file = await openFile(path, "r+");
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 1_000_000);
    await file.write(Buffer.from([buffer[0]! ^ 1]), 0, 1, 1_000_000);
    await file.close();
    const by = await stable.open(world.context(), { image: damaged });
    const spec = world.spec("damaged", by);
    const refused = by.create(spec, world.program(spec.name, "stay"), never);
    await assert.rejects(refused, { kind: "invalid", message: /base\.img is damaged/ });
    assert.deepEqual(await by.list(never), []);
    const checks = await by.check(never);
    assert.equal(checks.find(({ name }) => name === "image")?.ok, false);
    await by.close();
    await rm(damaged, { recursive: true });
  });

  it("is refused where the host cannot carry it", async () => {
    const reserveMemoryMb = 1024 * 1024 * 1024;
    const by = await stable.open(world.context(), { reserveMemoryMb });
    const spec = world.spec("large", by);
    const refused = by.create(spec, world.program(spec.name, "stay"), never);
    await assert.rejects(refused, { kind: "no_capacity", message: /memory are free/ });
    assert.deepEqual(await by.list(never), []);
    await by.close();
  });
});

describe("a host without QEMU", () => {
  for (const there of [[], ["perl", "setpriv"]]) {
    const what = there.length === 0 ? "not even perl" : there.join(" and ");
    it(`says what to install, and makes no machine (${what})`, { skip }, async () => {
      const world = await World.make((context) => stable.open(context, { accelerator: "tcg" }));
      const path = process.env["PATH"];
      try {
        const provider = await world.open();
        const tools = await mkdtemp(join(stable.folder, "tools-"));
        for (const name of there) await symlink(`/usr/bin/${name}`, join(tools, name));
        process.env["PATH"] = tools;
        const spec = world.spec("1", provider);
        const refused = provider.create(spec, world.program(spec.name, "stay"), never);
        await assert.rejects(refused, { kind: "invalid", message: /apt-get install/ });
        assert.deepEqual(await provider.list(never), []);
      } finally {
        process.env["PATH"] = path;
        await world.close();
      }
    });
  }

  it("is told what to install", async () => {
    const world = await World.make((context) => open(qemuOptions.parse({}), context));
    const path = process.env["PATH"];
    try {
      const provider = await world.open();
      process.env["PATH"] = "/nonexistent";
      const lacking = (await provider.check(never)).filter(({ ok }) => !ok);
      assert.ok(lacking.length > 0);
      const mends = lacking.map(({ mend }) => mend ?? "").join("\n");
      assert.match(mends, /apt-get install qemu-system-x86|use Linux/);
    } finally {
      process.env["PATH"] = path;
      await world.close();
    }
  });
});
