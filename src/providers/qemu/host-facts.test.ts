import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ProviderError } from "../../domain/errors.ts";
import { findBoard, tscOf } from "./accelerator.ts";
import { qemuCommand, type Guest } from "./arguments.ts";
import { findGpus, labelsOf } from "./facts.ts";
import { encodeFrame, FrameReader } from "./frames.ts";
import { loadOf, refuseOverload } from "./load.ts";
import { endWords } from "./machine-folder.ts";

describe("the clock of a microvm", () => {
  const cpuinfo = (...mhz: readonly string[]): string =>
    mhz.map((each) => `cpu MHz\t\t: ${each}\nflags\t\t: fpu tsc_known_freq sse\n`).join("\n");

  it("is the one frequency of all processors, where the kernel is sure of it", () => {
    assert.equal(tscOf(cpuinfo("2100.123", "2100.123")), 2_100_123);
    assert.equal(tscOf(cpuinfo("2100.123", "2100.124")), null);
    assert.equal(tscOf(cpuinfo("2100.123").replace("tsc_known_freq", "constant_tsc")), null);
    assert.equal(tscOf(""), null);
  });

  it("decides on the board only under emulation, and only for x64", async () => {
    assert.deepEqual(await findBoard("auto", "arm64", "tcg"), { board: "virt", tscKhz: null });
    assert.deepEqual(await findBoard("auto", "x64", "kvm"), { board: "microvm", tscKhz: null });
    assert.deepEqual(await findBoard("q35", "x64", "tcg"), { board: "q35", tscKhz: null });
    assert.equal((await findBoard("microvm", "x64", "tcg")).board, "microvm");
  });
});

describe("the host's load", () => {
  const limits = { reserveMemoryMb: 512, cpuPressureMax: 90 };
  const idle = { totalMemoryMb: 8192, availableMemoryMb: 8000, cpuPressurePercent: 0 };

  it("is read from /proc", () => {
    const memory = "MemTotal:        8388608 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n";
    const pressure = "some avg10=12.34 avg60=1.00 avg300=0.00 total=5\nfull avg10=99.00\n";
    const load = { totalMemoryMb: 8192, availableMemoryMb: 4096, cpuPressurePercent: 12.34 };
    assert.deepEqual(loadOf(memory, pressure), load);
    assert.equal(loadOf("", "").cpuPressurePercent, null);
  });

  it("lets machines grow until memory, taken or promised, would run out", () => {
    const kind = "no_capacity";
    refuseOverload(idle, 4096, [], limits);
    assert.throws(() => refuseOverload(idle, 7600, [], limits), { kind });
    // Promised, though not taken yet.
    refuseOverload(idle, 2048, [2048, 2048], limits);
    assert.throws(() => refuseOverload(idle, 2048, [4096, 2048], limits), { kind });
    assert.throws(() => refuseOverload({ ...idle, availableMemoryMb: 100 }, 512, [], limits), {
      kind,
      message: /100 MB of the host's memory are free/,
    });
  });

  it("lets no second machine in while processors are wanted", () => {
    const busy = { ...idle, cpuPressurePercent: 95 };
    refuseOverload(busy, 512, [], limits);
    assert.throws(() => refuseOverload(busy, 512, [512], limits), ProviderError);
    refuseOverload({ ...busy, cpuPressurePercent: null }, 512, [512], limits);
    refuseOverload(busy, 512, [512], { ...limits, cpuPressureMax: 100 });
  });
});

describe("what the host can lend", () => {
  it("is promised to guests as far as they get it", () => {
    const facts = { cpuFeatures: ["aes", "avx2"], hasCounters: true, gpus: ["0000:01:00.0"] };
    assert.deepEqual(labelsOf("kvm", facts), ["qemu", "kvm", "perf", "aes", "avx2"]);
    assert.deepEqual(labelsOf("tcg", facts), ["qemu", "tcg"]);
  });

  it("counts displays and accelerators among the devices", async () => {
    const folder = await mkdtemp(join(tmpdir(), "mayfly-pci-"));
    const devices = { a: "0x030000\n", b: "0x120000\n", c: "0x020000\n" };
    for (const [name, code] of Object.entries(devices)) {
      await mkdir(join(folder, name));
      await writeFile(join(folder, name, "class"), code);
    }
    assert.deepEqual((await findGpus(folder)).toSorted(), ["a", "b"]);
    await rm(folder, { recursive: true });
    assert.deepEqual(await findGpus(folder), []);
  });
});

describe("QEMU's command", () => {
  const guest: Guest = {
    name: "abc-1",
    architecture: "x64",
    board: "microvm",
    accelerator: "tcg",
    tscKhz: 2_100_000,
    cpu: 2,
    memoryMb: 512,
    kernel: "/images/kernel",
    initrd: "/images/initramfs",
    append: "quiet",
    disks: [{ path: "a,b.img", serial: "mayfly-base", readOnly: true }],
    network: "none",
    memory: null,
    incoming: false,
  };
  const after = (words: readonly string[], flag: string) => words[words.indexOf(flag) + 1] ?? "";

  it("ends with whoever runs it, reads nobody's configuration, and may start nothing", () => {
    const words = qemuCommand(guest);
    assert.deepEqual(words.slice(0, 4), [
      "setpriv",
      "--pdeathsig=KILL",
      "--",
      "qemu-system-x86_64",
    ]);
    for (const word of ["-nodefaults", "-no-user-config", "-no-reboot"]) {
      assert.ok(words.includes(word), word);
    }
    assert.match(after(words, "-sandbox"), /spawn=deny/);
    assert.equal(words.includes("-netdev"), false);
    // Nothing of the host's is shared with the guest, and nothing listens.
    assert.doesNotMatch(words.join(" "), /virtfs|virtiofs|hostfwd|-vnc|server=on/);
  });

  it("doubles commas, which part options", () => {
    assert.match(after(qemuCommand(guest), "-drive"), /file=a,,b\.img$/);
    assert.match(after(qemuCommand({ ...guest, name: "a,b" }), "-name"), /guest=a,,b$/);
  });

  it("closes a network, gives it a gate, or leaves it open", () => {
    assert.match(after(qemuCommand({ ...guest, network: "closed" }), "-netdev"), /restrict=on/);
    const [gated, open] = (["gated", "open"] as const).map((network) =>
      qemuCommand({ ...guest, network }),
    );
    const gate = /^filter-redirector,.*netdev=n0,queue=rx,outdev=gate-to,indev=gate-from$/;
    assert.match(gated!.at(-1)!, gate);
    for (const words of [gated!, open!]) assert.match(after(words, "-netdev"), /ipv6=off$/);
    assert.equal(open!.join(" ").includes("filter"), false);
  });

  it("keeps a copy's memory to the copy", () => {
    const memory = { path: "/t/memory", shared: false };
    assert.match(after(qemuCommand({ ...guest, memory }), "-object"), /share=off,mem-path=/);
  });
});

describe("frames", () => {
  it("are whole again however they were cut", () => {
    const payloads = fc.array(fc.uint8Array({ maxLength: 2_000 }), { maxLength: 8 });
    fc.assert(
      fc.property(payloads, fc.integer({ min: 1, max: 700 }), (all, size) => {
        const bytes = Buffer.concat(all.map((payload, n) => encodeFrame(n + 1, n * 7, payload)));
        const reader = new FrameReader();
        const found = [];
        for (let at = 0; at < bytes.length; at += size) {
          found.push(...reader.take(bytes.subarray(at, at + size)));
        }
        const expected = all.map((payload, n) => [n + 1, n * 7, Buffer.from(payload)]);
        assert.deepEqual(
          found.map(({ type, stream, payload }) => [type, stream, Buffer.from(payload)]),
          expected,
        );
      }),
    );
  });

  it("are refused beyond their bound, by either end", () => {
    assert.throws(() => encodeFrame(3, 0, Buffer.alloc(65_537)), RangeError);
    const head = Buffer.from([3, 0, 0, 0, 0, 0, 1, 0, 1]);
    assert.throws(() => new FrameReader().take(head), RangeError);
  });
});

describe("a machine's end", () => {
  it("is told in words, each kind its own", () => {
    const said = (how: string): string => endWords({ how, exitCode: null, words: "because" });
    const kinds = ["failed", "panic", "boot", "protocol", "lost", "stopped", "qemu", "deadline"];
    assert.equal(new Set(kinds.map(said)).size, kinds.length);
    assert.equal(said("panic"), "its kernel panicked: because");
    assert.equal(endWords(null), "it was lost: its keeper was killed");
  });
});
