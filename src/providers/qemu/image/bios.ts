import { ProviderError } from "../../../domain/errors.ts";
import { gptMbrBytes } from "./gpt.ts";

/** What bios-boot.S assembles to, up to its parameters. */
const code = Buffer.from(
  "McCO2I7AjtC8AHzqEHwAAPz7iBb/fOiSAMcGpn0AIGahsH1mxwYAfQAAEADoJgBmobR9ZscGAH0AAAAM6BYA+rgA" +
    "EI7YjsCO4I7ojtC8AODqAAAgEGaFwHRQZrlAAAAAZjnIcwNmicGJDqJ9ZlBmUeg4AGZZZlFmoQB9ox59ZsHoEKIg" +
    "fYgmI33B4Qi+BH20h80VcjVmWWaJy2bB4wlmAR4AfWZYZinI66vDvqB9ihb/fLRCzRNyEmYPtwaifWYBBqh9ZoMW" +
    "rH0Aw77dfKyEwHQItA4x280Q6/P06/1tYXlmbHk6IHRoZSBkaXNrIGNhbm5vdCBiZSByZWFkDQoAAAAAAAAAAAAA" +
    "AAAAAAAAAAAAAAAA//8AAAKTAAD//wAAAJM=",
  "base64",
);
const parametersAt = 416;
const sector = 512;
/** As bios-boot.S has them: sectors for the setup code, and where things come to lie in memory. */
const setupSectors = 120;
const setupAt = 0x10000;
const stackAt = 0xe000;
const initramfsAt = 0xc000000;

/** What a PC without UEFI boots: the code of the first sector, and what that loads. */
export interface BiosBoot {
  readonly firstSector: Buffer;
  readonly content: Buffer;
}

/**
 * Makes a kernel boot where firmware is no UEFI, as that of bare metal of EC2's is. `at` is where
 * the content is going to lie on the disk, in bytes. The fields are those of Linux's boot protocol
 * (Documentation/arch/x86/boot.rst). Throws `invalid` for a kernel that is no bzImage.
 */
export function makeBiosBoot(
  parts: { readonly kernel: Buffer; readonly initramfs: Buffer; readonly commandLine: string },
  at: number,
): BiosBoot {
  const { kernel, initramfs, commandLine } = parts;
  const isBzImage =
    kernel.length > 0x250 &&
    kernel.toString("latin1", 0x202, 0x206) === "HdrS" &&
    kernel.readUInt16LE(0x206) >= 0x204 &&
    (kernel[0x211]! & 1) === 1;
  const setupBytes = isBzImage ? ((kernel[0x1f1] || 4) + 1) * sector : 0;
  const line = Buffer.from(`${commandLine}\0`, "latin1");
  if (setupBytes === 0 || setupBytes > stackAt - 0x1000 || line.length > 2048) {
    throw new ProviderError("invalid", "the kernel is none that a BIOS could boot");
  }
  const setup = Buffer.alloc(setupSectors * sector);
  kernel.copy(setup, 0, 0, setupBytes);
  setup.writeUInt16LE(0xffff, 0x1fa);
  // A loader that is not one of those with a number, and one that gives a heap.
  setup[0x210] = 0xff;
  setup[0x211]! |= 0x80;
  setup.writeUInt32LE(initramfsAt, 0x218);
  setup.writeUInt32LE(initramfs.length, 0x21c);
  setup.writeUInt16LE(stackAt - 0x200, 0x224);
  setup.writeUInt32LE(setupAt + stackAt, 0x228);
  line.copy(setup, stackAt);
  const rest = [kernel.subarray(setupBytes), initramfs].map(whole);
  const firstSector = Buffer.alloc(gptMbrBytes);
  code.copy(firstSector);
  firstSector.set([16, 0], parametersAt);
  firstSector.writeUInt16LE(setupSectors, parametersAt + 2);
  firstSector.writeUInt16LE(setupAt / 16, parametersAt + 6);
  firstSector.writeBigUInt64LE(BigInt(at / sector), parametersAt + 8);
  rest.forEach((one, n) => {
    firstSector.writeUInt32LE(one.length / sector, parametersAt + 16 + 4 * n);
  });
  return { firstSector, content: Buffer.concat([setup, ...rest]) };
}

function whole(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & (sector - 1))]);
}
