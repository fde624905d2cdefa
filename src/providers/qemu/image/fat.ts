import type { Piece } from "./gpt.ts";

const sector = 512;
const reservedSectors = 32;
const fats = 2;
const endOfChain = 0x0fffffff;
/** 2025-01-01, as FAT has dates: seven bits of years since 1980, four of months, five of days. */
const date = ((2025 - 1980) << 9) | (1 << 5) | 1;

/**
 * A FAT32 file system with one file in it, three folders deep: `/EFI/BOOT/<name>`, where firmware
 * looks for what to boot (UEFI specification, 3.5.1.1). `name` as FAT has it, 8 and 3 letters; at
 * least 34 MB, since with fewer clusters it would be another kind of FAT. The same content gives the
 * same bytes. Microsoft's "FAT: General Overview of On-Disk Format" has the fields.
 */
export function bootFileSystem(bytes: number, name: string, content: Buffer): Piece[] {
  const sectors = Math.floor(bytes / sector);
  // Each cluster is a sector here, and has four bytes in each table.
  const fatSectors = Math.ceil((4 * (sectors - reservedSectors + 2)) / (sector + 4 * fats));
  const dataAt = reservedSectors + fats * fatSectors;
  const clusters = sectors - dataAt;
  const needed = 3 + Math.ceil(content.length / sector);
  if (clusters < 65_525 || needed > clusters) throw new RangeError("not a size for FAT32");
  const clusterAt = (cluster: number): number => (dataAt + cluster - 2) * sector;
  const [root, efi, boot, file] = [2, 3, 4, 5];
  const fat = Buffer.alloc(fatSectors * sector);
  const used = [0x0ffffff8, endOfChain, endOfChain, endOfChain, endOfChain];
  used.forEach((value, n) => fat.writeUInt32LE(value, 4 * n));
  const last = file + needed - 4;
  for (let n = file; n <= last; n++) fat.writeUInt32LE(n === last ? endOfChain : n + 1, 4 * n);
  const head = bootSector(sectors, fatSectors);
  const info = infoSector(clusters - needed, last + 1);
  const folder = (own: number, parent: number, ...more: Buffer[]): Buffer =>
    Buffer.concat([entry(".", true, own, 0), entry("..", true, parent, 0), ...more]);
  return [
    // The first two sectors are there twice.
    ...[0, 6].flatMap((at) => [
      { at: at * sector, bytes: head },
      { at: (at + 1) * sector, bytes: info },
    ]),
    ...[0, 1].map((n) => ({ at: (reservedSectors + n * fatSectors) * sector, bytes: fat })),
    { at: clusterAt(root), bytes: entry("EFI", true, efi, 0) },
    // A folder in the root has 0 for its parent.
    { at: clusterAt(efi), bytes: folder(efi, 0, entry("BOOT", true, boot, 0)) },
    { at: clusterAt(boot), bytes: folder(boot, efi, entry(name, false, file, content.length)) },
    { at: clusterAt(file), bytes: content },
  ];
}

function bootSector(sectors: number, fatSectors: number): Buffer {
  const bytes = Buffer.alloc(sector);
  bytes.set([0xeb, 0x58, 0x90]);
  bytes.write("MAYFLY  ", 3, "latin1");
  bytes.writeUInt16LE(sector, 11);
  bytes[13] = 1;
  bytes.writeUInt16LE(reservedSectors, 14);
  bytes[16] = fats;
  bytes[21] = 0xf8;
  bytes.writeUInt16LE(32, 24);
  bytes.writeUInt16LE(64, 26);
  bytes.writeUInt32LE(sectors, 32);
  bytes.writeUInt32LE(fatSectors, 36);
  bytes.writeUInt32LE(2, 44);
  bytes.writeUInt16LE(1, 48);
  bytes.writeUInt16LE(6, 50);
  bytes[64] = 0x80;
  bytes[66] = 0x29;
  bytes.writeUInt32LE(0x4d46_4c59, 67);
  bytes.write("NO NAME    FAT32   ", 71, "latin1");
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

function infoSector(free: number, next: number): Buffer {
  const bytes = Buffer.alloc(sector);
  bytes.writeUInt32LE(0x41615252, 0);
  bytes.writeUInt32LE(0x61417272, 484);
  bytes.writeUInt32LE(free, 488);
  bytes.writeUInt32LE(next, 492);
  bytes.writeUInt32LE(0xaa550000, 508);
  return bytes;
}

function entry(name: string, isFolder: boolean, cluster: number, bytes: number): Buffer {
  const made = Buffer.alloc(32);
  const [base = "", extension = ""] = name.startsWith(".") ? [name] : name.split(".");
  made.write(base.padEnd(8) + extension.padEnd(3), 0, 11, "latin1");
  made[11] = isFolder ? 0x10 : 0x20;
  for (const at of [16, 18, 24]) made.writeUInt16LE(date, at);
  made.writeUInt16LE(cluster >>> 16, 20);
  made.writeUInt16LE(cluster & 0xffff, 26);
  made.writeUInt32LE(bytes, 28);
  return made;
}
