import { createHash } from "node:crypto";
import { open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../../domain/errors.ts";
import { makeBiosBoot } from "./bios.ts";
import { bootFileSystem } from "./fat.ts";
import { gpt, partitionTypes, type Partition, type Piece } from "./gpt.ts";
import { ec2Part, type StoredImage } from "./manifest.ts";
import { readUki } from "./uki.ts";

const mib = 2 ** 20;
const gib = 2 ** 30;
/** Goes up when the same image makes another disk. */
const layout = 2;
/** The least that a machine can write if its volume is no larger than the disk. */
const roomBytes = 512 * mib;
/** What firmware boots when nobody told it what, for each processor. */
const bootNames = { x64: "BOOTX64.EFI", arm64: "BOOTAA64.EFI" } as const;
const copyBytes = 4 * mib;

/** Names the disk that an image makes: the same image makes the same bytes. */
export function diskDigest(image: StoredImage): string {
  return createHash("sha256").update(`disk ${layout} ${image.digest}\n`).digest("hex");
}

/**
 * Writes a disk that boots by UEFI, and for x64 by a BIOS too, as the new file `path`, with holes
 * where there is nothing: the kernel in an EFI system partition and, for a BIOS, in one of its own;
 * the image's system in another, and room behind that the machine encrypts and writes to. Returns its size, whole GiB as volumes have it. Throws `invalid`
 * for an image that was not made for EC2.
 */
export async function writeDisk(image: StoredImage, path: string): Promise<{ gib: number }> {
  const kernel = await readFile(join(image.folder, ec2Part)).catch(() => null);
  if (kernel === null || image.files[ec2Part] === undefined) {
    const mend = "build it with mayfly image build --for ec2";
    throw new ProviderError("invalid", `the image has no kernel that EC2 boots; ${mend}`);
  }
  const efi = { start: mib, bytes: mib * Math.max(64, Math.ceil((kernel.length * 1.1) / mib)) };
  const biosAt = efi.start + efi.bytes;
  const bios = image.architecture === "x64" ? makeBiosBoot(readUki(kernel), biosAt) : null;
  const biosBytes = roundUp(bios?.content.length ?? 0, mib);
  const base = { start: biosAt + biosBytes, bytes: roundUp(image.files["base.img"].bytes, mib) };
  const size = roundUp(base.start + base.bytes + roomBytes, gib);
  const partitions: Partition[] = [
    { type: partitionTypes.efiSystem, label: "mayfly-boot", ...efi },
    ...(bios === null
      ? []
      : [{ type: partitionTypes.bios, label: "mayfly-bios", start: biosAt, bytes: biosBytes }]),
    // By this name the first process finds it.
    { type: partitionTypes.linux, label: "mayfly-base", ...base },
  ];
  const boot = bootFileSystem(efi.bytes, bootNames[image.architecture], kernel);
  const pieces: Piece[] = [
    ...gpt(size, partitions, diskDigest(image), bios?.firstSector),
    ...(bios === null ? [] : [{ at: biosAt, bytes: bios.content }]),
    ...boot.map(({ at, bytes }) => ({ at: efi.start + at, bytes })),
  ];
  const file = await open(path, "wx", 0o600);
  try {
    await file.truncate(size);
    for (const { at, bytes } of pieces) await file.write(bytes, 0, bytes.length, at);
    const system = await open(join(image.folder, "base.img"));
    try {
      const buffer = Buffer.alloc(copyBytes);
      for (let at = 0; ;) {
        const { bytesRead } = await system.read(buffer, 0, copyBytes, at);
        if (bytesRead === 0) break;
        await file.write(buffer, 0, bytesRead, base.start + at);
        at += bytesRead;
      }
    } finally {
      await system.close();
    }
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  return { gib: size / gib };
}

function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
