import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";

const sectorBytes = 512;
/** So much of the first sector is free for code. */
export const gptMbrBytes = 440;

export interface Partition {
  /** One of `partitionTypes`. */
  readonly type: string;
  readonly label: string;
  /** In bytes, whole sectors. */
  readonly start: number;
  readonly bytes: number;
}

/** Bytes and where they lie on a disk. */
export interface Piece {
  readonly at: number;
  readonly bytes: Uint8Array;
}

export const partitionTypes = {
  efiSystem: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
  bios: "21686148-6449-6E6F-744E-656564454649",
  linux: "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
} as const;

const entries = 128;
const entryBytes = 128;
const tableSectors = (entries * entryBytes) / sectorBytes;

/**
 * A GUID partition table (UEFI specification, chapter 5), its copy at the disk's end and the MBR
 * that keeps others off, with `code` for a PC without UEFI. `seed` makes the ids that would be
 * random elsewhere.
 */
export function gpt(
  diskBytes: number,
  partitions: readonly Partition[],
  seed: string,
  code: Buffer = Buffer.alloc(0),
): Piece[] {
  const lastSector = diskBytes / sectorBytes - 1;
  const table = Buffer.alloc(entries * entryBytes);
  partitions.forEach(({ type, label, start, bytes }, n) => {
    const at = n * entryBytes;
    guidBytes(type).copy(table, at);
    guidOf(`${seed} partition ${n}`).copy(table, at + 16);
    table.writeBigUInt64LE(BigInt(start / sectorBytes), at + 32);
    table.writeBigUInt64LE(BigInt((start + bytes) / sectorBytes - 1), at + 40);
    table.write(label, at + 56, 72, "utf16le");
  });
  const header = (own: number, other: number, tableAt: number): Buffer => {
    const bytes = Buffer.alloc(sectorBytes);
    bytes.write("EFI PART", "latin1");
    bytes.writeUInt32LE(0x10000, 8);
    bytes.writeUInt32LE(92, 12);
    bytes.writeBigUInt64LE(BigInt(own), 24);
    bytes.writeBigUInt64LE(BigInt(other), 32);
    bytes.writeBigUInt64LE(BigInt(2 + tableSectors), 40);
    bytes.writeBigUInt64LE(BigInt(lastSector - 1 - tableSectors), 48);
    guidOf(`${seed} disk`).copy(bytes, 56);
    bytes.writeBigUInt64LE(BigInt(tableAt), 72);
    bytes.writeUInt32LE(entries, 80);
    bytes.writeUInt32LE(entryBytes, 84);
    bytes.writeUInt32LE(crc32(table), 88);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 92)), 16);
    return bytes;
  };
  const copyAt = lastSector - tableSectors;
  return [
    { at: 0, bytes: protectiveMbr(lastSector, code) },
    { at: sectorBytes, bytes: header(1, lastSector, 2) },
    { at: 2 * sectorBytes, bytes: table },
    { at: copyAt * sectorBytes, bytes: table },
    { at: lastSector * sectorBytes, bytes: header(lastSector, 1, copyAt) },
  ];
}

function protectiveMbr(lastSector: number, code: Buffer): Buffer {
  const mbr = Buffer.alloc(sectorBytes);
  code.copy(mbr, 0, 0, gptMbrBytes);
  // One partition over everything, of the type that says: look into the GPT.
  mbr.set([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff], 446);
  mbr.writeUInt32LE(1, 454);
  mbr.writeUInt32LE(Math.min(lastSector, 0xffffffff), 458);
  mbr.set([0x55, 0xaa], 510);
  return mbr;
}

/** Made of a hash, and marked as RFC 9562 wants one that is neither of time nor of chance. */
function guidOf(seed: string): Buffer {
  const bytes = createHash("sha256").update(seed).digest().subarray(0, 16);
  // In a GUID's order on disk the version stands in byte 7.
  bytes[7] = (bytes[7]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes;
}

/** The first three groups are little-endian on disk. */
function guidBytes(text: string): Buffer {
  const [a = "", b = "", c = "", ...rest] = text.split("-");
  const swapped = [a, b, c].map((group) => Buffer.from(group, "hex").reverse());
  return Buffer.concat([...swapped, Buffer.from(rest.join(""), "hex")]);
}
