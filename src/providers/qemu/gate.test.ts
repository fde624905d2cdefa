import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { until } from "../conformance-world.ts";
import { qemuOptions } from "./options.ts";
import { gateFault } from "./reach.ts";

const script = fileURLToPath(new URL("gate.pl", import.meta.url));
const skip = process.platform === "linux" ? false : "machines need Linux";
const kinds = { tcp: 6, udp: 17, icmp: 1 };

interface Packet {
  readonly to: string;
  readonly port?: number;
  readonly protocol?: keyof typeof kinds;
  readonly type?: number;
  /** The version and the header's length, in words. */
  readonly head?: number;
  readonly length?: number;
  readonly fragment?: number;
}

/** An Ethernet frame around the beginning of an IPv4 packet, as a guest would send it. */
function frameOf(packet: Packet): Buffer {
  const { to, port = 443, protocol = "tcp", type = 0x0800, head = 0x45 } = packet;
  const { length = 40, fragment = 0x4000 } = packet;
  const frame = Buffer.alloc(54);
  frame.writeUInt16BE(type, 12);
  frame.writeUInt8(head, 14);
  frame.writeUInt16BE(length, 16);
  frame.writeUInt16BE(fragment, 20);
  frame.writeUInt8(kinds[protocol], 23);
  frame.set([10, 0, 2, 15], 26);
  frame.set(to.split(".").map(Number), 30);
  frame.writeUInt16BE(40_000, 34);
  frame.writeUInt16BE(port, 36);
  return frame;
}

function withLength(frame: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(frame.length);
  return Buffer.concat([length, frame]);
}

/** A gate with the test as its QEMU. */
class Gate {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  said = Buffer.alloc(0);

  constructor(reach: readonly string[] = []) {
    this.child = spawn("perl", [script, reach.join(",")], { stdio: ["pipe", "pipe", "ignore"] });
    this.child.stdout!.on(
      "data",
      (chunk: Buffer) => (this.said = Buffer.concat([this.said, chunk])),
    );
    this.child.stdin!.on("error", () => {});
    this.ended = once(this.child, "exit");
  }

  write(bytes: Buffer): void {
    this.child.stdin!.write(bytes);
  }

  /** Those of the frames that pass: what comes back before the last, which always does. */
  async passed(frames: readonly Buffer[], cut = 65_536): Promise<Buffer[]> {
    this.said = Buffer.alloc(0);
    const arp = Buffer.alloc(42);
    arp.writeUInt16BE(0x0806, 12);
    arp.write("the last", 22);
    const all = Buffer.concat([...frames, arp].map(withLength));
    for (let at = 0; at < all.length; at += cut) this.write(all.subarray(at, at + cut));
    await until("the last frame", async () => this.said.includes(arp));
    const passed: Buffer[] = [];
    for (let at = 0; at < this.said.length;) {
      const end = at + 4 + this.said.readUInt32BE(at);
      passed.push(this.said.subarray(at + 4, end));
      at = end;
    }
    return passed.slice(0, -1);
  }

  async lets(packet: Packet): Promise<boolean> {
    const frame = frameOf(packet);
    const passed = await this.passed([frame]);
    for (const each of passed) assert.deepEqual(each, frame);
    return passed.length === 1;
  }
}

const gates: Gate[] = [];
function gate(reach: readonly string[] = []): Gate {
  gates.push(new Gate(reach));
  return gates.at(-1)!;
}

describe("the gate of a network", { skip: skip || (await gateFault()) || false }, () => {
  afterEach(() => {
    for (const each of gates.splice(0)) each.child.kill("SIGKILL");
  });

  it("lets out to the internet by every protocol, and to the name server by its port", async () => {
    const way = gate();
    const far = ["1.1.1.1", "8.8.8.8", "126.255.255.255", "223.255.255.254", "172.32.0.1"];
    for (const to of [...far, "100.128.0.1", "192.169.0.1", "11.0.0.1", "192.0.1.1"]) {
      for (const protocol of ["tcp", "udp", "icmp"] as const) {
        assert.ok(await way.lets({ to, protocol, port: 1 }), `${protocol} ${to}`);
      }
    }
    for (const protocol of ["tcp", "udp"] as const) {
      assert.ok(await way.lets({ to: "10.0.2.3", protocol, port: 53 }));
      assert.equal(await way.lets({ to: "10.0.2.3", protocol, port: 54 }), false);
    }
    assert.equal(await way.lets({ to: "10.0.2.3", protocol: "icmp", port: 53 }), false);
  });

  it("lets nothing out to what is nobody's on the internet", async () => {
    const way = gate();
    const ranges = [
      ...["0.0.0.0", "0.255.255.255", "10.0.0.0", "10.0.2.2", "10.255.255.255", "100.64.0.0"],
      ...["100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.255.255", "168.63.129.16"],
      ...["169.254.0.0", "169.254.169.254", "172.16.0.0", "172.31.255.255", "192.0.0.192"],
      ...["192.168.0.0", "192.168.255.255", "198.18.0.1", "198.19.255.255", "224.0.0.1"],
      ...["239.255.255.255", "240.0.0.1", "255.255.255.255"],
    ];
    assert.deepEqual(await way.passed(ranges.map((to) => frameOf({ to }))), []);
    assert.deepEqual(await way.passed(ranges.map((to) => frameOf({ to, protocol: "udp" }))), []);
  });

  it("lets nothing out to the host's own addresses", async (t) => {
    const ownAddresses = (): string[] =>
      Object.values(networkInterfaces())
        .flatMap((each) => each ?? [])
        .filter(({ family }) => family === "IPv4")
        .map(({ address }) => address);
    const own = ownAddresses();
    const passed = await gate().passed(own.map((to) => frameOf({ to })));
    // Those of other tests' interfaces may have gone meanwhile.
    const stayed = own.filter((address) => ownAddresses().includes(address));
    if (stayed.length === 0) return t.skip("this host has no address");
    const out = stayed.filter((to) => passed.some((frame) => frame.equals(frameOf({ to }))));
    assert.deepEqual(out, []);
  });

  it("lets out to what is allowed, by its port if it has one", async () => {
    const way = gate(["10.1.2.3:3000", "10.1.2.3:22", "192.168.7.7", "1.1.1.1:443"]);
    assert.ok(await way.lets({ to: "10.1.2.3", port: 3000 }));
    assert.ok(await way.lets({ to: "10.1.2.3", port: 22, protocol: "udp" }));
    assert.equal(await way.lets({ to: "10.1.2.3", port: 443 }), false);
    assert.equal(await way.lets({ to: "10.1.2.3", port: 3000, protocol: "icmp" }), false);
    assert.equal(await way.lets({ to: "10.1.2.4", port: 3000 }), false);
    assert.ok(await way.lets({ to: "192.168.7.7", port: 1 }));
    assert.ok(await way.lets({ to: "192.168.7.7", protocol: "icmp" }));
    // What is open anyway is not narrowed.
    assert.ok(await way.lets({ to: "1.1.1.1", port: 80 }));
  });

  it("lets out nothing but whole, plain IPv4", async () => {
    const way = gate();
    const to = "1.1.1.1";
    assert.ok(await way.lets({ to }));
    const odd: Partial<Packet>[] = [
      ...[{ type: 0x86dd }, { type: 0x8100 }, { type: 0x88f8 }, { head: 0x46 }, { head: 0x65 }],
      ...[{ head: 0x44 }, { fragment: 0x2000 }, { fragment: 1 }, { fragment: 0x8000 }],
      ...[{ length: 27 }, { length: 41 }, { length: 65_535 }],
    ];
    for (const each of odd)
      assert.equal(await way.lets({ to, ...each }), false, JSON.stringify(each));
    const frame = frameOf({ to });
    const short = [0, 1, 14, 34, 41].map((length) => frame.subarray(0, length));
    assert.deepEqual(await way.passed(short), []);
  });

  it("takes frames however they are cut, and passes what passes in its order", async () => {
    const way = gate(["10.9.9.9:1"]);
    const some = fc.record({
      to: fc.constantFrom("1.1.1.1", "10.9.9.9", "10.9.9.8", "169.254.169.254"),
      port: fc.integer({ min: 0, max: 2 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(some), fc.integer({ min: 1, max: 200 }), async (packets, cut) => {
        const open = packets.filter(
          ({ to, port }) => to === "1.1.1.1" || (to === "10.9.9.9" && port === 1),
        );
        assert.deepEqual(await way.passed(packets.map(frameOf), cut), open.map(frameOf));
      }),
      { numRuns: 20 },
    );
  });

  it("drops whole frames where they are not taken, and goes on", async () => {
    const way = gate();
    way.child.stdout!.pause();
    const frame = withLength(Buffer.concat([frameOf({ to: "1.1.1.1" }), Buffer.alloc(1_400)]));
    const flood = Buffer.concat(Array.from({ length: 1_000 }, () => frame));
    for (let times = 0; times < 8; times += 1) {
      if (!way.child.stdin!.write(flood)) await once(way.child.stdin!, "drain");
    }
    way.child.stdout!.resume();
    const after = withLength(frameOf({ to: "8.8.8.8" }));
    await until("a frame after them", async () => {
      way.write(after);
      return way.said.includes(after);
    });
    let passed = 0;
    while (way.said.subarray(passed * frame.length).indexOf(frame) === 0) passed += 1;
    assert.equal(way.said.indexOf(after), passed * frame.length);
    assert.ok(passed > 0 && passed < 8_000, String(passed));
  });

  it("ends with its QEMU, and rather than lose its place", async () => {
    const way = gate();
    assert.ok(await way.lets({ to: "1.1.1.1" }));
    way.child.stdin!.end();
    assert.deepEqual(await way.ended, [0, null]);
    const lost = gate();
    lost.write(Buffer.from([0xff, 0, 0, 0]));
    assert.deepEqual(await lost.ended, [1, null]);
    // Nor does it begin with an address that is never one of another machine's.
    for (const reach of ["127.0.0.1", "10.0.2.2:80", "nonsense"]) {
      const [code] = (await gate([reach]).ended) as [number];
      assert.notEqual(code, 0, reach);
    }
  });
});

describe("what strangers' machines may reach", () => {
  const accepts = (...reach: string[]) => qemuOptions.safeParse({ reach }).success;

  it("is addresses, with ports or without", () => {
    assert.ok(accepts("10.1.2.3", "192.168.1.10:3000", "203.0.113.7:65535"));
    for (const wrong of ["git.example.org", "10.1.2", "10.1.2.3/8", "10.1.2.3:", "10.1.2.3:0"]) {
      assert.equal(accepts(wrong), false, wrong);
    }
    for (const wrong of [
      "10.1.2.3:65536",
      "10.1.2.3:1:2",
      "::1",
      "10.1.2.3,10.1.2.4",
      "",
      "1.2.3.4:+1",
    ]) {
      assert.equal(accepts(wrong), false, wrong);
    }
  });

  it("is never this host's loopback, by whatever name, nor a group", () => {
    for (const wrong of ["127.0.0.1", "10.0.2.2:80", "0.0.0.0", "224.0.0.1", "255.255.255.255"]) {
      assert.equal(accepts(wrong), false, wrong);
    }
    assert.ok(accepts("10.0.20.2", "223.1.1.1", "100.127.0.1", "12.70.1.1"));
  });

  it("is nothing on a host that takes all addresses for its own, which is told", async () => {
    const folder = await mkdtemp(join(tmpdir(), "mayfly-gate-"));
    const path = join(folder, "ip_nonlocal_bind");
    try {
      await writeFile(path, "1\n");
      assert.match((await gateFault(path)) ?? "", /ip_nonlocal_bind/);
      await writeFile(path, "0\n");
      assert.equal(await gateFault(path), null);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
