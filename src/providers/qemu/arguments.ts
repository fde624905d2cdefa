import type { Architecture } from "../../domain/size.ts";

export type Accelerator = "kvm" | "tcg";

/** `microvm` has the least to set up, `q35` is a whole PC, `virt` is arm64's. */
export type Board = "microvm" | "q35" | "virt";

/**
 * What a guest's network reaches: nothing, since it has none; nothing but itself; what `gate.pl`
 * lets pass; all we reach.
 */
export type Network = "none" | "closed" | "gated" | "open";

export interface Disk {
  readonly path: string;
  readonly serial: string;
  readonly readOnly: boolean;
}

/** One QEMU: what it boots and what it has. Paths are this host's. */
export interface Guest {
  readonly name: string;
  readonly architecture: Architecture;
  readonly board: Board;
  readonly accelerator: Accelerator;
  /** The ticks of the host's clock a millisecond, for a board that cannot find out; null: it can. */
  readonly tscKhz: number | null;
  readonly cpu: number;
  readonly memoryMb: number;
  readonly kernel: string;
  readonly initrd: string | null;
  /** Words for the kernel's command line. */
  readonly append: string;
  /** Raw images; the guest knows them by their serial numbers. */
  readonly disks: readonly Disk[];
  readonly network: Network;
  /** A file as memory: `shared` writes to it, otherwise writes are the guest's own copy. */
  readonly memory: { readonly path: string; readonly shared: boolean } | null;
  /** Waits to be told where its state comes from, instead of booting. */
  readonly incoming: boolean;
}

export function qemuBinary(architecture: Architecture): string {
  return architecture === "x64" ? "qemu-system-x86_64" : "qemu-system-aarch64";
}

/**
 * The command that runs a guest: descriptor 3 is its channel, 4 QMP, 5 its console; a gated network
 * sends what leaves the guest to 6 and goes on with what comes from 7. The kernel ends it with
 * whoever started it (`setpriv`, which keeps that over the exec). Nothing of the user's own
 * configuration is read, there is no device but those named, and a machine's QEMU may start no
 * program.
 */
export function qemuCommand(guest: Guest): [string, ...string[]] {
  const { accelerator, board } = guest;
  const memory = guest.memory === null ? "" : ",memory-backend=memory";
  // What makes a template has its state written by a program.
  const spawn = guest.memory?.shared === true ? "allow" : "deny";
  const boardWords = board === "microvm" ? "microvm,rtc=on" : board;
  return [
    "setpriv",
    "--pdeathsig=KILL",
    "--",
    qemuBinary(guest.architecture),
    "-nodefaults",
    "-no-user-config",
    ...["-display", "none"],
    "-no-reboot",
    ...["-sandbox", `on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny,spawn=${spawn}`],
    ...["-name", `guest=${escape(guest.name)}`],
    ...["-accel", accelerator === "tcg" ? "tcg,thread=multi" : "kvm"],
    ...["-machine", `${boardWords}${memory}`],
    ...["-cpu", cpuOf(guest)],
    ...["-smp", String(Math.ceil(guest.cpu))],
    ...["-m", `${Math.ceil(guest.memoryMb)}M`],
    ...memoryWords(guest),
    ...["-kernel", guest.kernel],
    ...(guest.initrd === null ? [] : ["-initrd", guest.initrd]),
    ...["-append", appendOf(guest)],
    ...guest.disks.flatMap((disk, n) => diskWords(disk, n, board)),
    ...["-chardev", "socket,id=qmp,fd=4", "-mon", "chardev=qmp,mode=control"],
    ...["-chardev", "socket,id=console,fd=5", "-serial", "chardev:console"],
    ...["-device", `virtio-serial-${busOf(board)}`],
    ...["-chardev", "socket,id=channel,fd=3"],
    ...["-device", "virtserialport,chardev=channel,name=mayfly"],
    ...networkWords(guest.network, board),
    ...(guest.incoming ? ["-incoming", "defer"] : []),
  ];
}

/** `,` separates QEMU's options, and doubled stands for itself. */
function escape(word: string): string {
  return word.replaceAll(",", ",,");
}

function busOf(board: Board): "device" | "pci" {
  return board === "q35" ? "pci" : "device";
}

function cpuOf({ accelerator, architecture }: Guest): string {
  if (accelerator === "kvm") return "host";
  // `max` is several times slower on arm64: it emulates pointer authentication. On x64 it promises
  // fast `rep movsb`, with which it copies byte by byte; without the promise Linux copies by words.
  return architecture === "x64" ? "max,erms=off,fsrm=off" : "cortex-a72";
}

function memoryWords({ memory, memoryMb }: Guest): string[] {
  if (memory === null) return [];
  const share = memory.shared ? "on" : "off";
  const size = `${Math.ceil(memoryMb)}M`;
  const words = `memory-backend-file,id=memory,size=${size},share=${share}`;
  return ["-object", `${words},mem-path=${escape(memory.path)}`];
}

/** `panic=-1`: a kernel that panics restarts at once, and a restart ends QEMU. */
function appendOf({ architecture, append, tscKhz }: Guest): string {
  const console = architecture === "x64" ? "ttyS0" : "ttyAMA0";
  const clock = tscKhz === null ? "" : ` tsc_early_khz=${tscKhz}`;
  return `console=${console} panic=-1${clock} ${append}`.trim();
}

/** The host's disk need not be flushed for a machine that is thrown away. */
function diskWords({ path, serial, readOnly }: Disk, n: number, board: Board): string[] {
  const mode = readOnly ? "readonly=on" : "cache=unsafe,discard=unmap";
  const drive = `id=d${n},if=none,format=raw,${mode},file=${escape(path)}`;
  return ["-drive", drive, "-device", `virtio-blk-${busOf(board)},drive=d${n},serial=${serial}`];
}

/** Where a gate's descriptor is closed, QEMU drops what would go to it. */
function networkWords(network: Network, board: Board): string[] {
  if (network === "none") return [];
  const restrict = network === "closed" ? ",restrict=on" : "";
  const card = `virtio-net-${busOf(board)},netdev=n0${board === "q35" ? ",romfile=" : ""}`;
  const words = ["-netdev", `user,id=n0,ipv6=off${restrict}`, "-device", card];
  if (network !== "gated") return words;
  const gate = "filter-redirector,id=gate,netdev=n0,queue=rx,outdev=gate-to,indev=gate-from";
  const ways = ["-chardev", "socket,id=gate-to,fd=6", "-chardev", "socket,id=gate-from,fd=7"];
  return [...words, ...ways, "-object", gate];
}
