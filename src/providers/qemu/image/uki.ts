import { ProviderError } from "../../../domain/errors.ts";

/** What a unified kernel image holds besides the program that starts it. */
export interface UkiParts {
  /** systemd-boot's, for the processor: finds the rest in itself and starts the kernel. */
  readonly stub: Buffer;
  /** A kernel that firmware can start: a bzImage, or arm64's Image. */
  readonly kernel: Buffer;
  readonly initramfs: Buffer;
  readonly commandLine: string;
}

const fileAlignment = 512;
/** A page: what firmware sets permissions by. */
const memoryAlignment = 4096;
const sectionBytes = 40;
/** Initialized data that is read: IMAGE_SCN_CNT_INITIALIZED_DATA and IMAGE_SCN_MEM_READ. */
const readOnlyData = 0x40000040;

/**
 * One EFI program of all that boots a machine: the stub with sections added to it (the PE format as
 * Microsoft's "PE Format" has it; the sections' names as the UAPI group's "Unified Kernel Image").
 * The same parts give the same bytes. Throws `invalid` for a stub that is none.
 */
export function makeUki({ stub, kernel, initramfs, commandLine }: UkiParts): Buffer {
  const pe = headerOf(stub);
  const wanted: readonly (readonly [string, Buffer])[] = [
    [".cmdline", Buffer.from(`${commandLine}\0`)],
    [".initrd", initramfs],
    // Last, since it may grow in memory.
    [".linux", kernel],
  ];
  const count = stub.readUInt16LE(pe + 6);
  const table = pe + 24 + stub.readUInt16LE(pe + 20);
  const sections = Array.from({ length: count }, (_, n) => table + n * sectionBytes);
  const tableEnd = table + (count + wanted.length) * sectionBytes;
  const oldData = stub.readUInt32LE(pe + 24 + 60);
  const newData = roundUp(tableEnd, fileAlignment);
  const firstInMemory = Math.min(...sections.map((at) => stub.readUInt32LE(at + 12)));
  if (newData > firstInMemory) throw new ProviderError("invalid", "the stub has no room for more");
  // Where the table needs more of the file, all that comes after it moves.
  const shift = Math.max(0, newData - oldData);
  const head = Buffer.alloc(oldData + shift);
  stub.copy(head, 0, 0, table + count * sectionBytes);
  for (const at of sections) {
    const data = head.readUInt32LE(at + 20);
    if (data !== 0) head.writeUInt32LE(data + shift, at + 20);
  }
  const body: Buffer[] = [head, stub.subarray(oldData)];
  let inFile = roundUp(stub.length + shift, fileAlignment);
  body.push(Buffer.alloc(inFile - stub.length - shift));
  let inMemory = Math.max(
    ...sections.map((at) => stub.readUInt32LE(at + 12) + stub.readUInt32LE(at + 8)),
  );
  wanted.forEach(([name, content], n) => {
    inMemory = roundUp(inMemory, memoryAlignment);
    const size = roundUp(content.length, fileAlignment);
    const at = table + (count + n) * sectionBytes;
    head.write(name, at, 8, "latin1");
    head.writeUInt32LE(content.length, at + 8);
    head.writeUInt32LE(inMemory, at + 12);
    head.writeUInt32LE(size, at + 16);
    head.writeUInt32LE(inFile, at + 20);
    head.writeUInt32LE(readOnlyData, at + 36);
    body.push(content, Buffer.alloc(size - content.length));
    inFile += size;
    inMemory += content.length;
  });
  head.writeUInt16LE(count + wanted.length, pe + 6);
  head.writeUInt32LE(roundUp(inMemory, memoryAlignment), pe + 24 + 56);
  head.writeUInt32LE(oldData + shift, pe + 24 + 60);
  // The checksum, which nobody looks at in an EFI program, would be another's.
  head.writeUInt32LE(0, pe + 24 + 64);
  return Buffer.concat(body);
}

/** The parts of one that `makeUki` made. Throws `invalid` where one is missing. */
export function readUki(uki: Buffer): Omit<UkiParts, "stub"> {
  const pe = headerOf(uki);
  const table = pe + 24 + uki.readUInt16LE(pe + 20);
  const part = (name: string): Buffer => {
    for (let n = 0; n < uki.readUInt16LE(pe + 6); n++) {
      const at = table + n * sectionBytes;
      if (uki.toString("latin1", at, at + 8).replace(/\0+$/, "") !== name) continue;
      const from = uki.readUInt32LE(at + 20);
      return uki.subarray(from, from + uki.readUInt32LE(at + 8));
    }
    throw new ProviderError("invalid", `the kernel's EFI program has no ${name}`);
  };
  const commandLine = part(".cmdline").toString().replace(/\0$/, "");
  return { kernel: part(".linux"), initramfs: part(".initrd"), commandLine };
}

/** Where the PE header begins: the DOS header's last word says so. */
function headerOf(stub: Buffer): number {
  const isDos = stub.length > 64 && stub.toString("latin1", 0, 2) === "MZ";
  const pe = isDos ? stub.readUInt32LE(60) : 0;
  const isPe = isDos && pe + 24 + 112 < stub.length && stub.readUInt32LE(pe) === 0x4550;
  // PE32+, for processors of 64 bits.
  if (isPe && stub.readUInt16LE(pe + 24) === 0x20b) return pe;
  throw new ProviderError("invalid", "systemd-boot's stub is no EFI program");
}

function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
