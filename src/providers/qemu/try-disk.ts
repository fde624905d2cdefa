import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { ProviderError } from "../../domain/errors.ts";
import type { Architecture } from "../../domain/size.ts";
import { clip } from "../../domain/words.ts";
import { lastWords } from "../child.ts";
import { bareEnvironment } from "../local.ts";
import { qemuBinary } from "./arguments.ts";
import { qemuMend } from "./run.ts";

/** A processor that is emulated takes its time over the firmware, too. */
const limitMs = 300_000;
const memoryMb = 512;
const consoleBytesMax = 65_536;

/** Where Debian's and Ubuntu's packages have firmware that keeps nothing, and their names. */
const firmware = {
  x64: { path: "/usr/share/ovmf/OVMF.fd", from: "ovmf" },
  arm64: { path: "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", from: "qemu-efi-aarch64" },
} as const;

const metadataScript = new URL("./metadata.pl", import.meta.url);

export interface DiskBoot {
  /** A raw disk; nothing is written to it. */
  readonly disk: string;
  readonly architecture: Architecture;
  /** What its metadata gives it to run. */
  readonly userData: Uint8Array;
  /** By UEFI if it is not said. */
  readonly firmware?: "uefi" | "bios";
  /** `open` reaches what this host reaches, and the host's loopback as `hostAddress`. */
  readonly network: "closed" | "open";
}

/** The host's loopback, for a machine whose network is open. */
export const hostAddress = "169.254.169.2";

export interface DiskEnd {
  /** What the machine reported; null: nothing. */
  readonly report: string | null;
  /** The last of its console. */
  readonly console: string;
}

/** Why no disk for `architecture` can be tried here, as what to install; null: it can. */
export async function missingFirmware(architecture: Architecture): Promise<string | null> {
  const { path, from } = firmware[architecture];
  return access(path).then(
    () => null,
    () => `there is no UEFI firmware: apt-get install ${from}`,
  );
}

/**
 * Boots a disk as EC2 does, by UEFI from NVMe, beside a stand-in for its metadata, until it turns
 * itself off. By emulation, since that works on every host. Throws `unreachable` when `signal`
 * aborts before, and `invalid` when QEMU does not run.
 */
export async function bootDisk(boot: DiskBoot, signal: AbortSignal): Promise<DiskEnd> {
  const missing = await missingFirmware(boot.architecture);
  if (missing !== null) throw new ProviderError("invalid", missing);
  const folder = await mkdtemp(join(tmpdir(), "mayfly-trial-"));
  try {
    await writeFile(join(folder, "user-data"), boot.userData);
    const [tool = "", ...args] = command(boot);
    const child = spawn(tool, args, {
      cwd: folder,
      // Where QEMU keeps what the machine writes to the disk.
      env: { ...bareEnvironment(), TMPDIR: folder },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let console = "";
    let errors = "";
    child.stdout.setEncoding("latin1").on("data", (chunk: string) => {
      console = (console + chunk).slice(-consoleBytesMax);
    });
    child.stderr.setEncoding("latin1").on("data", (chunk: string) => {
      errors = (errors + chunk).slice(-consoleBytesMax);
    });
    const kill = (): void => void child.kill("SIGKILL");
    signal.addEventListener("abort", kill, { once: true });
    if (signal.aborted) kill();
    try {
      const [code] = (await once(child, "close")) as [number | null];
      if (signal.aborted) {
        throw new ProviderError("unreachable", `the machine did not end${lastOf(console)}`);
      }
      if (code !== 0) {
        const hint = /failed to execute|ENOENT/.test(errors) ? `; ${qemuMend}` : "";
        throw new ProviderError("invalid", `QEMU does not run: ${lastWords(errors)}${hint}`);
      }
    } finally {
      signal.removeEventListener("abort", kill);
    }
    return { report: await readFile(join(folder, "report"), "utf8").catch(() => null), console };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Boots a disk in every way that it can be, at once, to run user data that reports a word. Throws
 * `ProviderError` when a word does not come, with the console's last words.
 */
export async function tryDisk(
  disk: string,
  architecture: Architecture,
  signal: AbortSignal,
): Promise<void> {
  const kinds = architecture === "x64" ? (["uefi", "bios"] as const) : (["uefi"] as const);
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal, AbortSignal.timeout(limitMs)]);
  const faults: Error[] = [];
  const tryOne = async (kind: (typeof kinds)[number]): Promise<void> => {
    const word = randomBytes(16).toString("hex");
    const boot = {
      disk,
      architecture,
      userData: gzipSync(trial(word)),
      network: "closed",
    } as const;
    const end = await bootDisk({ ...boot, firmware: kind }, until);
    if (end.report === word) return;
    throw new ProviderError("invalid", `it did not report${lastOf(end.console)}`);
  };
  const tried = kinds.map(async (kind) => {
    await tryOne(kind).catch((error: Error) => {
      const isOurs = error instanceof ProviderError && !signal.aborted;
      const what = `the disk does not work by ${kind.toUpperCase()}`;
      faults.push(isOurs ? new ProviderError("invalid", `${what}: ${error.message}`) : error);
      // One fault is enough, and nothing of the others is to run on.
      stop.abort();
    });
  });
  await Promise.all(tried);
  if (faults[0] !== undefined) throw faults[0];
}

/** What a program counts on: its own shutdown, a place to write, Perl with sockets. */
function trial(word: string): string {
  return `#!/bin/sh
shutdown -h +5
echo ${word} >/var/lib/trial && [ "$(cat /var/lib/trial)" = ${word} ] || exit 1
exec perl -e '
  use strict; use IO::Socket::INET;
  sub ask {
    my $s = IO::Socket::INET->new(PeerAddr => "169.254.169.254:80", Timeout => 20) or die "no metadata";
    print $s "$_[0] HTTP/1.0\\r\\nX-aws-ec2-metadata-token$_[1]\\r\\n\\r\\n";
    local $/; my ($head, $body) = split /\\r\\n\\r\\n/, scalar <$s>, 2;
    $head =~ / 200 / or die $head;
    return $body;
  }
  ask("PUT /report/${word}", ": " . ask("PUT /latest/api/token", "-ttl-seconds: 60"));
'
`;
}

/** Why the machine ended, as its kernel or its first process said; else its last line. */
function lastOf(console: string): string {
  const why = [...console.matchAll(/Kernel panic - not syncing: .*|^mayfly: .*/gm)].at(-1)?.[0];
  const words = clip(why?.trim() ?? console.trim().split("\n").at(-1) ?? "", 300);
  return words === "" ? "" : `; its console says: ${words}`;
}

/** `,` separates QEMU's options, and doubled stands for itself. */
function escape(word: string): string {
  return word.replaceAll(",", ",,");
}

function command({ disk, architecture, network, firmware: kind = "uefi" }: DiskBoot): string[] {
  const isX64 = architecture === "x64";
  const drive = `file=${escape(disk)},if=none,id=disk,format=raw,snapshot=on`;
  const script = `perl '${fileURLToPath(metadataScript).replaceAll("'", `'\\''`)}'`;
  const metadata = `guestfwd=tcp:169.254.169.254:80-cmd:${escape(script)}`;
  const net = `net=169.254.169.0/24,host=${hostAddress},dns=169.254.169.3,ipv6=off`;
  return [
    ...["setpriv", "--pdeathsig=KILL", "--", qemuBinary(architecture)],
    "-nodefaults",
    "-no-user-config",
    ...["-display", "none"],
    "-no-reboot",
    // It starts the stand-in for each connection, in a session of its own, which counts as elevation.
    ...["-sandbox", "on,obsolete=deny,resourcecontrol=deny,spawn=allow"],
    ...["-accel", "tcg,thread=multi"],
    ...["-machine", isX64 ? "q35" : "virt"],
    // See arguments.ts for what is left out.
    ...["-cpu", isX64 ? "max,erms=off,fsrm=off" : "cortex-a72"],
    ...["-smp", "1", "-m", `${memoryMb}M`],
    // Without a word, QEMU brings a BIOS.
    ...(kind === "bios" ? [] : ["-bios", firmware[architecture].path]),
    ...["-serial", "stdio"],
    ...["-drive", drive, "-device", "nvme,drive=disk,serial=mayfly"],
    ...[
      "-netdev",
      `user,id=net,${net},restrict=${network === "closed" ? "on" : "off"},${metadata}`,
    ],
    ...["-device", "virtio-net-pci,netdev=net,romfile="],
  ];
}
