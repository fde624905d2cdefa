import { createHash } from "node:crypto";
import type { Program } from "../../domain/program.ts";
import type { MachineSpec, ProviderContext } from "../provider.ts";
import type { Placed } from "../program.ts";
import type { PodmanOptions } from "./options.ts";
import type { Powers } from "./powers.ts";

/** Where a machine sees what it was given. */
export const programFolder = "/run/mayfly/program";
export const guestFolder = "/run/mayfly/guest";

/**
 * The capabilities (of the machine's own user namespace) that root needs to change owners, switch
 * users and install packages; none that reaches the host's devices, network or kernel.
 */
const capabilities = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "NET_BIND_SERVICE",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
];

/** systemd's range for containers is below, and what is above 2^31 some programs take for negative. */
const firstUid = 0x7000_0000;
const uidsEach = 65_536;
const slots = 4_094;

/**
 * The user on this host that a machine's root is, or null when it is the one we are. By the name,
 * so that no list of ranges is needed: two machines may share one, which costs only a wall less.
 */
export function rootUid(name: string, powers: Powers): number | null {
  if (powers.rootless || !powers.userNamespace) return null;
  const slot = createHash("sha256").update(name).digest().readUInt32BE() % slots;
  return firstUid + slot * uidsEach;
}

/** The arguments by which every container gets its walls and limits, the probe's too. */
export function wallArguments(
  size: { cpu: number; memoryMb: number; diskGb: number },
  name: string,
  powers: Powers,
): string[] {
  const uid = rootUid(name, powers);
  const map = `0:${uid}:${uidsEach}`;
  const limits = [
    `--cpus=${size.cpu}`,
    `--memory=${size.memoryMb}m`,
    `--memory-swap=${size.memoryMb}m`,
    // Half of the memory, as on a machine of metal; what is in it counts as the machine's memory.
    `--shm-size=${Math.max(1, Math.floor(size.memoryMb / 2))}m`,
    `--pids-limit=${pidsLimit(size.memoryMb)}`,
  ];
  return [
    "--cap-drop=all",
    `--cap-add=${capabilities.join(",")}`,
    "--security-opt=no-new-privileges",
    ...(uid === null ? [] : [`--uidmap=${map}`, `--gidmap=${map}`]),
    ...(powers.limits ? limits : []),
    ...(powers.quota ? [`--storage-opt=size=${size.diskGb}G`] : []),
    // One --ulimit makes podman forget its own defaults, which a host may not let it set.
    `--ulimit=nofile=${powers.nofile}:${powers.nofile}`,
    `--ulimit=nproc=${powers.nproc}:${powers.nproc}`,
    `--ulimit=fsize=${Math.ceil(size.diskGb * 2 ** 30)}`,
    "--ulimit=core=0:0",
  ];
}

/** A process for each 2 MB, at the least 512: many for a build, too few to trouble the host. */
function pidsLimit(memoryMb: number): number {
  return Math.min(16_384, Math.max(512, Math.floor(memoryMb / 2)));
}

export interface RunArguments {
  readonly spec: MachineSpec;
  readonly program: Program;
  readonly placed: Placed;
  readonly image: string;
  /** The machine's folder on this host: `program/` and `environment` in it, `cid` to be written. */
  readonly folder: string;
  readonly createdAt: number;
}

/** When it was made (ms), and how much it may write (bytes). */
export const createdLabel = "mayfly.created";
export const diskLabel = "mayfly.disk";

/** What tells this provider's containers from all others on the host. */
export function labelsOf(context: Pick<ProviderContext, "installation" | "name">): string[] {
  return [`mayfly.installation=${context.installation}`, `mayfly.provider=${context.name}`];
}

/** The one call that makes a machine and starts its program. */
export function runArguments(
  { spec, program, placed, image, folder, createdAt }: RunArguments,
  options: PodmanOptions,
  powers: Powers,
  context: ProviderContext,
): string[] {
  const { name } = spec;
  const diskBytes = Math.ceil(spec.size.diskGb * 2 ** 30);
  const own = [`${createdLabel}=${createdAt}`, `${diskLabel}=${diskBytes}`];
  const labels = [...labelsOf(context), ...own];
  const lent = options.mounts.map(({ from, to }) => `${from}:${to}`);
  const volumes = [`${folder}/program:${programFolder}`, `${context.guestFolder}:${guestFolder}`];
  return [
    "run",
    ...(context.stays ? ["--rm", "--attach=stdout", "--sig-proxy=false"] : ["--detach"]),
    `--name=${name}`,
    `--hostname=${name}`,
    `--cidfile=${folder}/cid`,
    `--pull=${options.pull}`,
    ...labels.map((label) => `--label=${label}`),
    ...wallArguments(spec.size, name, powers),
    `--network=${spec.network ? "private" : "none"}`,
    // conmon, podman's own small supervisor, keeps the deadline, whatever becomes of us.
    `--timeout=${Math.ceil(program.deadlineSeconds)}`,
    "--log-driver=k8s-file",
    "--log-opt=max-size=64k",
    "--systemd=false",
    "--sdnotify=ignore",
    "--no-healthcheck",
    "--user=0:0",
    "--workdir=/",
    "--entrypoint=",
    ...[...volumes, ...lent].map((volume) => `--volume=${volume}:ro`),
    `--env-file=${folder}/environment`,
    ...awkwardVariables(placed).map((pair) => `--env=${pair}`),
    image,
    ...placed.command,
  ];
}

/**
 * Variables for podman's env-file, which only we can read: the plain ones, as every secret of ours
 * is. The file's syntax differs between podman's versions, so that a value with quotes, line ends
 * or the like is an argument instead, which others on the host might see for a moment.
 */
export function plainVariables({ environment }: Placed): string {
  const plain = Object.entries(environment).filter(([, value]) => isPlain(value));
  return plain.map(([name, value]) => `${name}=${value}\n`).join("");
}

function awkwardVariables({ environment }: Placed): string[] {
  const awkward = Object.entries(environment).filter(([, value]) => !isPlain(value));
  return awkward.map((pair) => pair.join("="));
}

function isPlain(value: string): boolean {
  return value.length <= 32_768 && /^[A-Za-z0-9_.,:;@%+=/-]+$/.test(value);
}
