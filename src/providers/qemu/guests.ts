import { randomBytes } from "node:crypto";
import { basename, isAbsolute, join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import type { Program } from "../../domain/program.ts";
import type { Architecture } from "../../domain/size.ts";
import { quote } from "../../domain/words.ts";
import { hostArchitecture } from "../local.ts";
import { place } from "../program.ts";
import type { MachineSpec, ProviderContext } from "../provider.ts";
import { findAcceleration, findBoard } from "./accelerator.ts";
import type { Guest, Network } from "./arguments.ts";
import { scratchName } from "./machine-folder.ts";
import type { QemuOptions } from "./options.ts";
import type { StoredImage } from "./stored-image.ts";

const defaultImage = "minimal";

/** The image's folder for a machine of `architecture`. Throws `invalid` for what is no name. */
export function imageFolder(
  wanted: string | null,
  architecture: Architecture,
  options: QemuOptions,
  context: Pick<ProviderContext, "stateFolder">,
): string {
  const own = architecture === "arm64" ? `${defaultImage}-arm64` : defaultImage;
  const name = wanted ?? options.image ?? own;
  if (isAbsolute(name) && !name.includes("\0")) return name;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name)) {
    throw new ProviderError("invalid", `${quote(name)} is no name of an image`);
  }
  return join(context.stateFolder, "images", name);
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
  const { accelerator } = await findAcceleration(options.accelerator, image, folder, signal);
  const { board, tscKhz } = await findBoard(options.board, architecture, accelerator);
  const root = { path: image.root, serial: "mayfly-base", readOnly: true };
  const scratch = { path: scratchName, serial: "mayfly-scratch", readOnly: false };
  return {
    name: spec.name,
    architecture,
    board,
    accelerator,
    tscKhz,
    cpu: Math.ceil(spec.size.cpu),
    memoryMb: Math.ceil(spec.size.memoryMb),
    kernel: image.kernel,
    initrd: image.initrd,
    append: image.append,
    disks: scratchBytesOf(spec, options) === null ? [root] : [root, scratch],
    network: networkOf(spec),
    memory: null,
    incoming: false,
  };
}

/** Its size as a file, of whole sectors of 4 KiB; null: its writes go to memory. */
export function scratchBytesOf({ size }: MachineSpec, options: QemuOptions): number | null {
  if (options.scratch === "tmpfs") return null;
  return Math.max(2 ** 26, Math.ceil((size.diskGb * 2 ** 30) / 4096) * 4096);
}

/**
 * QEMU's own network reaches all that the host reaches, its loopback and private neighbours too,
 * and can filter nothing but everything: so a machine that strangers' jobs may use gets none of it.
 */
function networkOf({ network, trust }: MachineSpec): Network {
  if (!network) return "none";
  return trust.includes("fork") ? "closed" : "open";
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

/** Refuses an image of another architecture than asked for. */
export function refuseOther(image: StoredImage, folder: string, spec: MachineSpec): void {
  const { architecture } = spec.size;
  if (image.architecture === architecture) return;
  const fault = `the image ${quote(basename(folder))} is for ${image.architecture}`;
  throw new ProviderError("invalid", `${fault}, not for ${architecture}`);
}

/** What machines could be here: the host's architecture first. */
export function architectures(): readonly Architecture[] {
  const own = hostArchitecture();
  const all: readonly Architecture[] = ["x64", "arm64"];
  return own === null ? all : [own, ...all.filter((each) => each !== own)];
}
