import assert from "node:assert/strict";
import { createDecipheriv, randomBytes } from "node:crypto";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { never } from "../../conformance-world.ts";
import { findBoard } from "../accelerator.ts";
import type { Guest } from "../arguments.ts";
import { encodeFrame, FrameReader, frameTypes } from "../frames.ts";
import { rootDisk, scratchDisk } from "../guests.ts";
import type { StoredImage } from "../image/manifest.ts";
import { makeScratch, scratchName } from "../machine-folder.ts";
import { Qemu } from "../run.ts";
import { imageForTests } from "../testing.ts";

const image = await imageForTests();
const skip = typeof image === "string" ? image : false;
/** Under which the inside sets the cipher up, before it wipes it. */
const known = "00".repeat(32) + "ff".repeat(32);

test("a disk's key is drawn by the machine", { skip, timeout: 600_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "key-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await makeScratch(folder, 2 ** 27);
  const script = "dmsetup table --showkeys; sync; echo done; exec sleep 1000";
  const qemu = await Qemu.start(await guestOf(image as StoredImage), folder);
  t.after(() => qemu.end());
  await qemu.heard(frameTypes.ready, never);
  const printed = heardOf(qemu, /done/);
  const told = { timeMs: Date.now(), hostname: "key", scratch: "dmcrypt", network: null };
  const entropy = randomBytes(512).toString("base64");
  const command = ["/bin/sh", "-c", script];
  const work = { files: [], command, environment: {}, deadlineSeconds: 1_000, entropy, ...told };
  qemu.channel.write(encodeFrame(frameTypes.program, 0, JSON.stringify(work)));
  const key = / crypt aes-xts-plain64 ([0-9a-f]{128}) /.exec(await printed)?.[1];
  assert.ok(key !== undefined && key !== known);
  assert.ok(new Set(key).size > 8, "it looks drawn");
  const raw = await open(join(folder, scratchName));
  const { buffer } = await raw.read(Buffer.alloc(512), 0, 512, 1024);
  await raw.close();
  // The superblock begins at 1024 and has ext4's mark at 56.
  assert.equal(decrypted(buffer, key).readUInt16LE(56), 0xef53, "that key encrypts the disk");
  assert.notEqual(decrypted(buffer, known).readUInt16LE(56), 0xef53);
  assert.notEqual(buffer.readUInt16LE(56), 0xef53);
});

async function guestOf(from: StoredImage): Promise<Guest> {
  const { architecture, folder } = from;
  return {
    name: "key",
    architecture,
    ...(await findBoard("auto", architecture, "tcg")),
    accelerator: "tcg",
    cpu: 1,
    memoryMb: 512,
    kernel: join(folder, "kernel"),
    initrd: join(folder, "initramfs"),
    append: "quiet",
    disks: [rootDisk(from), scratchDisk],
    network: "none",
    memory: null,
    incoming: false,
  };
}

/** What the program printed, once that fits. */
function heardOf(qemu: Qemu, pattern: RegExp): Promise<string> {
  const reader = new FrameReader();
  let text = "";
  return new Promise((resolve, reject) => {
    qemu.channel.on("close", () => reject(new Error(`QEMU ended: ${text} ${qemu.console}`)));
    qemu.channel.on("data", (chunk: Buffer) => {
      for (const { type, payload } of reader.take(chunk)) {
        if (type === frameTypes.log || type === frameTypes.exit) text += payload.toString();
      }
      if (pattern.test(text)) resolve(text);
    });
  });
}

/** Sector 2 by AES-XTS, as dm-crypt's "plain64" numbers it. */
function decrypted(sector: Buffer, key: string): Buffer {
  const number = Buffer.alloc(16);
  number.writeUInt32LE(2, 0);
  const by = createDecipheriv("aes-256-xts", Buffer.from(key, "hex"), number);
  return Buffer.concat([by.update(sector), by.final()]);
}
