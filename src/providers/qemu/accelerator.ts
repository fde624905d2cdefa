import { randomBytes } from "node:crypto";
import { access, constants, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { ProviderError } from "../../domain/errors.ts";
import type { Architecture } from "../../domain/size.ts";
import { hostArchitecture } from "../local.ts";
import type { Accelerator, Board, Guest } from "./arguments.ts";
import { Qemu } from "./run.ts";

/** How guests of one architecture run here, and why not better. */
export interface Acceleration {
  readonly accelerator: Accelerator;
  /** Null under KVM. */
  readonly why: string | null;
}

const kept = z.object({ key: z.string(), why: z.string().nullable() });
/** A kernel gets to its panic in half a second under KVM; under emulation in two. */
const trialMs = 15_000;

/**
 * KVM where it really runs a kernel of ours, else emulation. That `/dev/kvm` opens proves nothing:
 * there are hosts where it does and no Linux boots. So the image's kernel is started once, without a
 * disk, and has to get as far as missing that; the answer is kept in `folder` until the host's next
 * boot. `wanted` other than `auto` is taken at its word.
 */
export async function findAcceleration(
  wanted: "auto" | Accelerator,
  image: { readonly architecture: Architecture; readonly kernel: string },
  folder: string,
  signal: AbortSignal,
): Promise<Acceleration> {
  if (wanted === "kvm") return { accelerator: "kvm", why: null };
  if (wanted === "tcg") return emulated("the configuration says so");
  if (image.architecture !== hostArchitecture()) return emulated("the host is of another kind");
  const device = await access("/dev/kvm", constants.R_OK | constants.W_OK).then(
    () => null,
    (error: NodeJS.ErrnoException) => error.code ?? "closed",
  );
  if (device !== null) return emulated(`/dev/kvm cannot be opened (${device})`);
  const path = join(folder, "accelerator.json");
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "");
  const key = `${boot.trim()} ${image.kernel}`;
  const known = parse(await readFile(path, "utf8").catch(() => ""));
  let why = known?.key === key ? known.why : undefined;
  if (why === undefined) {
    why = await tryKvm(image, folder, signal);
    const draft = `${path}.${randomBytes(6).toString("hex")}`;
    await writeFile(draft, JSON.stringify({ key, why }));
    await rename(draft, path);
  }
  return why === null ? { accelerator: "kvm", why } : emulated(why);
}

function emulated(why: string): Acceleration {
  return { accelerator: "tcg", why };
}

function parse(text: string): z.infer<typeof kept> | null {
  try {
    return kept.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Why no kernel runs under KVM here; null: one did. */
async function tryKvm(
  image: { readonly architecture: Architecture; readonly kernel: string },
  folder: string,
  signal: AbortSignal,
): Promise<string | null> {
  const guest: Guest = {
    name: "trial",
    architecture: image.architecture,
    board: image.architecture === "x64" ? "q35" : "virt",
    accelerator: "kvm",
    tscKhz: null,
    cpu: 1,
    memoryMb: 256,
    kernel: image.kernel,
    initrd: null,
    append: "quiet",
    disks: [],
    network: "none",
    memory: null,
    incoming: false,
  };
  const limit = AbortSignal.any([signal, AbortSignal.timeout(trialMs)]);
  let qemu: Qemu | null = null;
  try {
    qemu = await Qemu.start(guest, folder);
    await qemu.qmp.event(({ name }) => name === "SHUTDOWN", limit);
    // Another end than the panic over its missing disk is a fault of KVM's.
    return /Kernel panic - not syncing: VFS/.test(qemu.console) ? null : "a trial boot went wrong";
  } catch (error) {
    if (signal.aborted || !(error instanceof ProviderError)) throw error;
    if (!limit.aborted) return `a trial boot under KVM failed: ${error.message}`;
    return `a trial boot under KVM did not come up in ${trialMs / 1000} s`;
  } finally {
    await qemu?.end();
  }
}

/**
 * The board for a guest, and the clock it has to be told. A microvm has no timer to measure the
 * processor's clock by, and under emulation hangs in trying where the host is busy: it is told the
 * host's, if that is sure to be the same at all times, as on a virtual host.
 */
export async function findBoard(
  wanted: "auto" | "microvm" | "q35",
  architecture: Architecture,
  accelerator: Accelerator,
): Promise<{ board: Board; tscKhz: number | null }> {
  if (architecture === "arm64") return { board: "virt", tscKhz: null };
  if (accelerator === "kvm") return { board: wanted === "q35" ? "q35" : "microvm", tscKhz: null };
  const tscKhz = tscOf(await readFile("/proc/cpuinfo", "utf8").catch(() => ""));
  if (wanted === "q35" || (wanted === "auto" && tscKhz === null)) {
    return { board: "q35", tscKhz: null };
  }
  return { board: "microvm", tscKhz };
}

/** The one frequency of all processors in `/proc/cpuinfo`, in kHz, if it cannot change. */
export function tscOf(cpuinfo: string): number | null {
  const all = [...cpuinfo.matchAll(/^cpu MHz\s*:\s*([\d.]+)$/gm)].map(([, mhz]) => Number(mhz));
  const [first] = all;
  const sure = /^flags\s*:.* (tsc_known_freq)( |$)/m.test(cpuinfo);
  if (!sure || first === undefined || all.some((each) => each !== first)) return null;
  return Math.round(first * 1000);
}
