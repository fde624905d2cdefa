import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { hasTool } from "../../debian.ts";
import { diskDigest, writeDisk } from "./disk.ts";
import { bootFileSystem } from "./fat.ts";
import { gpt, partitionTypes } from "./gpt.ts";
import { digestOfFiles, ec2Part, measure, readImage } from "./manifest.ts";
import type { Files, Manifest, StoredImage } from "./manifest.ts";
import { makeBiosBoot } from "./bios.ts";
import { makeUki, readUki } from "./uki.ts";

const lacks = async (...tools: string[]): Promise<string | false> => {
  for (const tool of tools) if (!(await hasTool(tool))) return `${tool} is not installed`;
  return false;
};

const noObjdump = await lacks("objdump");
const noFatTools = await lacks("fsck.vfat", "mcopy");
const noAssembler = process.arch === "x64" ? await lacks("as", "ld") : "it is for x64";
const noSfdisk = await lacks("sfdisk");

function run(tool: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(tool, args, {
    env: { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`, MTOOLS_SKIP_CHECK: "1" },
    maxBuffer: 2 ** 26,
    encoding: "latin1",
  });
  assert.equal(status, 0, `${tool}: ${stdout} ${stderr}`);
  return stdout;
}

/** A program with one section and as little room in its header as there can be. */
function stubOf(code: Buffer, room: number): Buffer {
  const pe = 64;
  const table = pe + 24 + 240;
  const dataAt = Math.ceil((table + 40 + room) / 512) * 512;
  const stub = Buffer.alloc(dataAt + Math.ceil(code.length / 512) * 512);
  stub.write("MZ", "latin1");
  stub.writeUInt32LE(pe, 60);
  stub.write("PE\0\0", pe, "latin1");
  stub.writeUInt16LE(0x8664, pe + 4);
  stub.writeUInt16LE(1, pe + 6);
  stub.writeUInt16LE(240, pe + 20);
  stub.writeUInt16LE(0x0226, pe + 22);
  stub.writeUInt16LE(0x20b, pe + 24);
  stub.writeUInt32LE(4096, pe + 24 + 32);
  stub.writeUInt32LE(512, pe + 24 + 36);
  stub.writeUInt32LE(8192, pe + 24 + 56);
  stub.writeUInt32LE(dataAt, pe + 24 + 60);
  stub.writeUInt16LE(10, pe + 24 + 68);
  stub.writeUInt32LE(16, pe + 24 + 108);
  stub.write(".text", table, "latin1");
  stub.writeUInt32LE(code.length, table + 8);
  stub.writeUInt32LE(4096, table + 12);
  stub.writeUInt32LE(stub.length - dataAt, table + 16);
  stub.writeUInt32LE(dataAt, table + 20);
  stub.writeUInt32LE(0x60000020, table + 36);
  code.copy(stub, dataAt);
  return stub;
}

/** What a loader finds: each section's bytes, and where they come to lie in memory. */
function sectionsOf(uki: Buffer): Map<string, { bytes: Buffer; from: number; until: number }> {
  const pe = uki.readUInt32LE(60);
  const table = pe + 24 + uki.readUInt16LE(pe + 20);
  const found = new Map<string, { bytes: Buffer; from: number; until: number }>();
  for (let n = 0; n < uki.readUInt16LE(pe + 6); n++) {
    const at = table + 40 * n;
    const name = uki.toString("latin1", at, at + 8).replace(/\0+$/, "");
    const [size, from, , data] = [8, 12, 16, 20].map((field) => uki.readUInt32LE(at + field));
    const bytes = uki.subarray(data, data! + size!);
    found.set(name, { bytes, from: from!, until: from! + size! });
  }
  return found;
}

describe("a unified kernel image", () => {
  test("has every part whole, none over another, whatever their sizes", () => {
    const part = fc.uint8Array({ minLength: 1, maxLength: 20_000 }).map((all) => Buffer.from(all));
    fc.assert(
      fc.property(part, part, part, fc.nat(1000), (code, kernel, initramfs, room) => {
        const stub = stubOf(code, room);
        const uki = makeUki({ stub, kernel, initramfs, commandLine: "quiet mayfly.ec2" });
        const sections = sectionsOf(uki);
        assert.deepEqual([...sections.keys()], [".text", ".cmdline", ".initrd", ".linux"]);
        assert.ok(sections.get(".text")!.bytes.equals(code));
        assert.ok(sections.get(".linux")!.bytes.equals(kernel));
        assert.ok(sections.get(".initrd")!.bytes.equals(initramfs));
        assert.equal(sections.get(".cmdline")!.bytes.toString(), "quiet mayfly.ec2\0");
        let end = 0;
        for (const { from, until } of sections.values()) {
          assert.ok(from >= end);
          end = until;
        }
        const pe = uki.readUInt32LE(60);
        assert.ok(uki.readUInt32LE(pe + 24 + 56) >= end, "the size in memory");
        assert.equal(uki.length % 512, 0);
        assert.deepEqual(readUki(uki), { kernel, initramfs, commandLine: "quiet mayfly.ec2" });
      }),
      { numRuns: 50 },
    );
  });

  test("is what others read", { skip: noObjdump }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "uki-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const path = join(folder, "uki");
    const [code, kernel, initramfs] = [700, 5000, 900].map((size) => randomBytes(size));
    const stub = stubOf(code!, 0);
    const parts = { stub, kernel: kernel!, initramfs: initramfs!, commandLine: "x" };
    await writeFile(path, makeUki(parts));
    const listed = run("objdump", ["-h", path]);
    assert.match(listed, /\.cmdline +00000002 /);
    assert.match(listed, /\.initrd +00000384 /);
    assert.match(listed, /\.linux +00001388 /);
  });

  test("is made of a stub for 64 bits and of nothing else", () => {
    const parts = { kernel: Buffer.alloc(9), initramfs: Buffer.alloc(9), commandLine: "" };
    const whole = stubOf(Buffer.alloc(9), 0);
    const small = Buffer.from(whole);
    small.writeUInt16LE(0x10b, 64 + 24);
    const far = Buffer.from(whole);
    far.writeUInt32LE(0xffff_fff0, 60);
    const full = Buffer.from(whole);
    full.writeUInt32LE(256, 64 + 24 + 240 + 12);
    for (const stub of [Buffer.alloc(0), randomBytes(600), small, far, full]) {
      assert.throws(() => makeUki({ stub, ...parts }), { kind: "invalid" });
    }
  });
});

/** A kernel with a setup code of four sectors, and what of its header a loader looks at. */
function bzImageOf(body: Buffer): Buffer {
  const kernel = Buffer.concat([Buffer.alloc(5 * 512, 0x11), body]);
  kernel[0x1f1] = 4;
  kernel.write("HdrS", 0x202, "latin1");
  kernel.writeUInt16LE(0x20f, 0x206);
  kernel[0x211] = 1;
  return kernel;
}

describe("what a PC without UEFI boots", () => {
  test("is a sector that names what follows, and that filled in for Linux", () => {
    const [body, initramfs] = [randomBytes(1300), randomBytes(700)];
    const kernel = bzImageOf(body);
    const parts = { kernel, initramfs, commandLine: "quiet" };
    const { firstSector, content } = makeBiosBoot(parts, 65 * 2 ** 20);
    assert.equal(firstSector.length, 440);
    assert.equal(firstSector.readBigUInt64LE(424), BigInt(65 * 2048));
    assert.deepEqual([firstSector.readUInt32LE(432), firstSector.readUInt32LE(436)], [3, 2]);
    assert.equal(content.length, (120 + 3 + 2) * 512);
    assert.equal(content.toString("latin1", 0xe000, 0xe006), "quiet\0");
    assert.equal(content.readUInt32LE(0x228), 0x1e000);
    assert.equal(content.readUInt32LE(0x21c), initramfs.length);
    assert.ok(content.subarray(120 * 512, 120 * 512 + body.length).equals(body));
    assert.ok(content.subarray(123 * 512, 123 * 512 + initramfs.length).equals(initramfs));
    assert.equal(kernel[0x210], 0x11, "the kernel itself stays");
  });

  test("is refused of what is no bzImage", () => {
    const whole = bzImageOf(randomBytes(600));
    const old = Buffer.from(whole);
    old.writeUInt16LE(0x203, 0x206);
    const huge = Buffer.from(whole);
    huge[0x1f1] = 120;
    for (const kernel of [Buffer.alloc(9), randomBytes(9000), old, huge]) {
      const parts = { kernel, initramfs: Buffer.alloc(1), commandLine: "" };
      assert.throws(() => makeBiosBoot(parts, 2 ** 20), { kind: "invalid" });
    }
    const long = { kernel: whole, initramfs: Buffer.alloc(1), commandLine: "x".repeat(3000) };
    assert.throws(() => makeBiosBoot(long, 2 ** 20), { kind: "invalid" });
  });

  test("begins with what its source assembles to", { skip: noAssembler }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "bios-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const [object, binary] = [join(folder, "boot.o"), join(folder, "boot.bin")];
    run("as", ["--32", "-o", object, join(import.meta.dirname, "bios-boot.S")]);
    const how = ["-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary"];
    run("ld", [...how, "-o", binary, object]);
    const made = await readFile(binary);
    const parts = { initramfs: Buffer.alloc(1), commandLine: "" };
    const boot = makeBiosBoot({ kernel: bzImageOf(Buffer.alloc(1)), ...parts }, 0);
    // The numbers behind are what differs from disk to disk.
    assert.ok(boot.firstSector.subarray(0, 424).equals(made.subarray(0, 424)));
  });
});

describe("a partition table", () => {
  test("is the same for the same disk, and another for another", () => {
    const one = [{ type: partitionTypes.linux, label: "a", start: 2 ** 20, bytes: 2 ** 20 }];
    const table = (seed: string) => JSON.stringify(gpt(2 ** 30, one, seed));
    assert.equal(table("x"), table("x"));
    assert.notEqual(table("x"), table("y"));
  });
});

describe("a file system that firmware reads", () => {
  test("is no smaller than FAT32 may be", () => {
    assert.throws(() => bootFileSystem(32 * 2 ** 20, "A.EFI", Buffer.alloc(1)), RangeError);
    assert.throws(() => bootFileSystem(64 * 2 ** 20, "A.EFI", Buffer.alloc(2 ** 26)), RangeError);
  });

  test("is sound, and holds the file whole", { skip: noFatTools }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "fat-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    for (const size of [1, 512, 513, 5_000_000]) {
      const path = join(folder, `fat-${size}`);
      const content = randomBytes(size);
      const file = await open(path, "wx");
      await file.truncate(64 * 2 ** 20);
      for (const { at, bytes } of bootFileSystem(64 * 2 ** 20, "BOOTX64.EFI", content)) {
        await file.write(bytes, 0, bytes.length, at);
      }
      await file.close();
      run("fsck.vfat", ["-n", path]);
      run("mcopy", ["-i", path, "::/EFI/BOOT/BOOTX64.EFI", `${path}.out`]);
      assert.ok((await readFile(`${path}.out`)).equals(content));
    }
  });
});

describe("a disk for EC2", () => {
  let folder = "";
  let image: StoredImage;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "disk-"));
    image = await put("image", true);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const kernel = bzImageOf(Buffer.from("a kernel"));
  const initramfs = Buffer.from("a first file system");
  const uki = makeUki({ stub: stubOf(Buffer.alloc(9), 0), kernel, initramfs, commandLine: "" });

  async function put(name: string, forEc2: boolean): Promise<StoredImage> {
    const place = join(folder, name);
    await mkdir(place);
    const names = ["kernel", "initramfs", "base.img", ...(forEc2 ? [ec2Part] : [])];
    const files: Record<string, unknown> = {};
    for (const part of names) {
      const content = part === ec2Part ? uki : `${part} `.repeat(part === "base.img" ? 300_000 : 9);
      await writeFile(join(place, part), content);
      files[part] = await measure(join(place, part));
    }
    const manifest: Manifest = {
      version: 1,
      digest: digestOfFiles(files as Files),
      architecture: "x64",
      variant: "minimal",
      system: "debian",
      suite: "bookworm",
      recipe: 1,
      kernelRelease: "6.1.0",
      packages: [],
      files: files as Files,
    };
    await writeFile(join(place, "manifest.json"), JSON.stringify(manifest));
    return readImage(place);
  }

  /** The parts of a disk that are not holes: what is in front, and the copy of the table. */
  async function written(path: string): Promise<Buffer> {
    const file = await open(path);
    const front = Buffer.alloc(80 * 2 ** 20);
    const back = Buffer.alloc(2 ** 20);
    await file.read(front, 0, front.length, 0);
    await file.read(back, 0, back.length, (await file.stat()).size - back.length);
    await file.close();
    return Buffer.concat([front, back]);
  }

  test("holds the system where its table says, and is all holes behind", async () => {
    const path = join(folder, "one");
    assert.deepEqual(await writeDisk(image, path), { gib: 1 });
    const { size, blocks } = await stat(path);
    assert.equal(size, 2 ** 30);
    assert.ok(blocks * 512 < 16 * 2 ** 20, `${blocks} blocks`);
    const disk = await written(path);
    const system = await readFile(join(image.folder, "base.img"));
    const startOf = (label: string): number => {
      const at = disk.indexOf(Buffer.from(label, "utf16le")) - 56;
      return Number(disk.readBigUInt64LE(at + 32)) * 512;
    };
    const base = startOf("mayfly-base");
    assert.ok(disk.subarray(base, base + system.length).equals(system));
    assert.equal(Number(disk.readBigUInt64LE(424)) * 512, startOf("mayfly-bios"));
    assert.deepEqual([...disk.subarray(510, 512)], [0x55, 0xaa]);
  });

  test("is the same bytes each time, and named by what makes it", async () => {
    const again = await put("again", true);
    assert.equal(diskDigest(again), diskDigest(image));
    await writeDisk(image, join(folder, "two"));
    await writeDisk(again, join(folder, "three"));
    const [two, three] = await Promise.all(["two", "three"].map((n) => written(join(folder, n))));
    assert.ok(two!.equals(three!));
  });

  test("has a table that others find sound", { skip: noSfdisk }, async () => {
    const path = join(folder, "four");
    await writeDisk(image, path);
    const verified = run("sfdisk", ["--verify", path]);
    assert.match(verified, /No errors detected/);
    const { partitiontable: table } = JSON.parse(run("sfdisk", ["-J", path]));
    assert.equal(table.label, "gpt");
    assert.deepEqual(
      table.partitions.map(({ name, type }: { name: string; type: string }) => [name, type]),
      [
        ["mayfly-boot", partitionTypes.efiSystem],
        ["mayfly-bios", partitionTypes.bios],
        ["mayfly-base", partitionTypes.linux],
      ],
    );
    // It says so when a byte of the table is another.
    const file = await open(path, "r+");
    await file.write(Buffer.from([1]), 0, 1, 1024 + 200);
    await file.close();
    const broken = spawnSync("sfdisk", ["--verify", path], {
      env: { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` },
      encoding: "utf8",
    });
    assert.match(`${broken.stdout}${broken.stderr}`, /corrupt/);
  });

  test("is refused of an image that was not made for it, and leaves nothing", async () => {
    const other = await put("other", false);
    const path = join(folder, "five");
    await assert.rejects(writeDisk(other, path), { kind: "invalid", message: /--for ec2/ });
    await assert.rejects(stat(path), { code: "ENOENT" });
    // One that is there already stays.
    await writeFile(path, "mine");
    await assert.rejects(writeDisk(image, path), { code: "EEXIST" });
    assert.equal(await readFile(path, "utf8"), "mine");
  });
});
