import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { clip } from "../../domain/words.ts";
import { findBoard } from "./accelerator.ts";
import type { Guest } from "./arguments.ts";
import { encodeFrame, frameTypes } from "./frames.ts";
import { rootDisk, scratchDisk } from "./guests.ts";
import type { StoredImage } from "./image/manifest.ts";
import { makeScratch } from "./machine-folder.ts";
import { Qemu } from "./run.ts";

const limitMs = 180_000;
const scratchBytes = 2 ** 26;

/**
 * Boots an image once and has it run `true`, by emulation, since that works on every host and for
 * every architecture. Throws `ProviderError` when it does not, with the console's last words.
 */
export async function tryImage(image: StoredImage, signal: AbortSignal): Promise<void> {
  const { architecture } = image;
  const guest: Guest = {
    name: "trial",
    architecture,
    ...(await findBoard("auto", architecture, "tcg")),
    accelerator: "tcg",
    cpu: 1,
    memoryMb: 512,
    kernel: join(image.folder, "kernel"),
    initrd: join(image.folder, "initramfs"),
    append: "quiet",
    disks: [rootDisk(image), scratchDisk],
    network: "none",
    memory: null,
    incoming: false,
  };
  const folder = await mkdtemp(join(tmpdir(), "mayfly-trial-"));
  const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  let qemu: Qemu | null = null;
  try {
    await makeScratch(folder, scratchBytes);
    qemu = await Qemu.start(guest, folder);
    await qemu.heard(frameTypes.ready, limit);
    qemu.channel.write(encodeFrame(frameTypes.program, 0, JSON.stringify(trialOf(image))));
    const exit = (await qemu.heard(frameTypes.exit, limit)).toString();
    if (!/"exitCode":0\b/.test(exit)) throw new ProviderError("invalid", clip(exit, 300));
  } catch (error) {
    if (!(error instanceof ProviderError) || signal.aborted) throw error;
    const words = `${error.message}${lastOf(qemu?.console ?? "")}`;
    throw new ProviderError("invalid", `the image does not work: ${words}`);
  } finally {
    await qemu?.end();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Its panic's reason, else its last line. */
function lastOf(console: string): string {
  const panic = /Kernel panic - not syncing: [^\r\n]*/.exec(console)?.[0];
  const words = clip(panic ?? console.trim().split("\n").at(-1) ?? "", 300);
  return words === "" ? "" : `; its console says: ${words}`;
}

/** The time is any that has been: there is nothing in the guest that looks at it. */
function trialOf({ createdAt }: StoredImage): object {
  const entropy = randomBytes(512).toString("base64");
  const told = { entropy, timeMs: createdAt, hostname: "trial", scratch: "dmcrypt", network: null };
  return { files: [], command: ["/bin/true"], environment: {}, deadlineSeconds: 60, ...told };
}
