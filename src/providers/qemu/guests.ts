import { randomBytes } from "node:crypto";
import { isAbsolute, join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import type { Program } from "../../domain/program.ts";
import type { Architecture } from "../../domain/size.ts";
import { hostArchitecture } from "../local.ts";
import { place } from "../program.ts";
import type { MachineSpec, ProviderContext } from "../provider.ts";
import { findAcceleration, findBoard } from "./accelerator.ts";
import type { Disk, Guest, Network } from "./arguments.ts";
import { findImage } from "./image/images.ts";
import { readImage, type Part, type StoredImage } from "./image/manifest.ts";
import { scratchName } from "./machine-folder.ts";
import type { QemuOptions } from "./options.ts";

export const defaultImage = "minimal";

/**
 * The image for a machine of `architecture`: `wanted`, else the configured one, by its name, its
 * digest's beginning, or (configured only) its folder's path. Throws `invalid` when there is none.
 */
export async function imageFor(
  wanted: string | null,
  architecture: Architecture,
  options: QemuOptions,
  context: Pick<ProviderContext, "stateFolder">,
): Promise<StoredImage> {
  const name = wanted ?? options.image ?? defaultImage;
  if (wanted !== null || !isAbsolute(name)) {
    return findImage(join(context.stateFolder, "images"), name, architecture);
  }
  const image = await readImage(name);
  if (image.architecture === architecture) return image;
  const fault = `the image in ${name} is for ${image.architecture}`;
  throw new ProviderError("invalid", `${fault}, not for ${architecture}`);
}

/** What QEMU is to be for a machine of `spec` from `image`; its disk lies where QEMU runs. */
export async function guestOf(
  spec: MachineSpec,
  image: StoredImage,
  options: QemuOptions,
  folder: string,
  signal: AbortSignal,
): Promise<Guest> {
  const { architecture } = image;
  const path = (part: Part): string => join(image.folder, part);
  const kernel = { architecture, kernel: path("kernel") };
  const { accelerator } = await findAcceleration(options.accelerator, kernel, folder, signal);
  const { board, tscKhz } = await findBoard(options.board, architecture, accelerator);
  const root = rootDisk(image);
  return {
    name: spec.name,
    architecture,
    board,
    accelerator,
    tscKhz,
    cpu: Math.ceil(spec.size.cpu),
    memoryMb: Math.ceil(spec.size.memoryMb),
    kernel: kernel.kernel,
    initrd: path("initramfs"),
    append: "quiet",
    disks: scratchBytesOf(spec, options) === null ? [root] : [root, scratchDisk],
    network: networkOf(spec),
    memory: null,
    incoming: false,
  };
}

/** The image's system, as a disk that nobody writes to. */
export function rootDisk({ folder }: StoredImage): Disk {
  return { path: join(folder, "base.img"), serial: "mayfly-base", readOnly: true };
}

/** Where all goes that a machine writes. */
export const scratchDisk: Disk = { path: scratchName, serial: "mayfly-scratch", readOnly: false };

/** Its size as a file, of whole sectors of 4 KiB; null: its writes go to memory. */
export function scratchBytesOf({ size }: MachineSpec, options: QemuOptions): number | null {
  if (options.scratch === "tmpfs") return null;
  return Math.max(2 ** 26, Math.ceil((size.diskGb * 2 ** 30) / 4096) * 4096);
}

/**
 * QEMU's own network reaches all that the host reaches, its loopback and private neighbours too: so
 * what leaves a machine that strangers' jobs may use goes through a gate.
 */
function networkOf({ network, trust }: MachineSpec): Network {
  if (!network) return "none";
  return trust.includes("fork") ? "gated" : "open";
}

/** Where the inside puts what a program is given. */
const places = { program: "/run/mayfly/program", guest: "/run/mayfly/guest/guest.sock" };

/** Addresses as QEMU's user network has them. */
const addresses = {
  address: "10.0.2.15",
  netmask: "255.255.255.0",
  gateway: "10.0.2.2",
  dns: "10.0.2.3",
};

/**
 * What the guest is told to run, as JSON; the keeper adds the time. Its randomness is drawn anew for
 * each, since machines restored from one state have the same of their own.
 */
export function programOf(spec: MachineSpec, program: Program, options: QemuOptions): string {
  const { command, environment } = place(program, places);
  return JSON.stringify({
    files: program.files,
    command,
    environment,
    deadlineSeconds: Math.ceil(program.deadlineSeconds),
    entropy: randomBytes(512).toString("base64"),
    hostname: spec.name,
    scratch: options.scratch,
    network: networkOf(spec) === "none" ? null : addresses,
  });
}

/** What machines could be here: the host's architecture first. */
export function architectures(): readonly Architecture[] {
  const own = hostArchitecture();
  const all: readonly Architecture[] = ["x64", "arm64"];
  return own === null ? all : [own, ...all.filter((each) => each !== own)];
}
