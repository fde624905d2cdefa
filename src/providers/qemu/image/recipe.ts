import type { Architecture } from "../../../domain/size.ts";

/** Goes up with every change of what is in an image that the lists below do not show. */
export const recipe = 3;

export type Variant = "minimal" | "runner";
export const variants: readonly Variant[] = ["minimal", "runner"];

/** What every machine has: Perl and a shell come with the smallest set; mk is 9base's. */
const minimal = [
  "9base",
  "aardvark-dns",
  "ca-certificates",
  "curl",
  "e2fsprogs",
  "fuse-overlayfs",
  "git",
  "gocryptfs",
  "iptables",
  "kmod",
  "netavark",
  "podman",
  "procps",
  "runc",
];

/** What workflows of forges count on besides. */
const runner = [
  "build-essential",
  "buildah",
  "docker.io",
  "file",
  "gnupg",
  "jq",
  "make",
  "openssh-client",
  "python3",
  "qemu-user-static",
  "rsync",
  "sudo",
  "unzip",
  "wget",
  "xz-utils",
  "zip",
  "zstd",
];

export function packagesOf(variant: Variant): readonly string[] {
  return variant === "minimal" ? minimal : [...minimal, ...runner];
}

/** The architecture as Debian names it. */
export const debianNames: Readonly<Record<Architecture, string>> = { x64: "amd64", arm64: "arm64" };

/** The package that stands for the newest kernel for virtual machines. */
export function kernelPackage(system: "debian" | "ubuntu", architecture: Architecture): string {
  return system === "ubuntu"
    ? "linux-image-virtual"
    : `linux-image-cloud-${debianNames[architecture]}`;
}

/** What an image holds but no machine reads: it is larger than all the rest. */
export const leftOut = [
  "/usr/share/doc/*/*",
  "/usr/share/man/*",
  "/usr/share/info/*",
  "/usr/share/locale/*",
  "/usr/share/lintian/*",
];
/** Where a runner program of a forge lies, in a folder of its name; empty as built. */
export const runnersFolder = "opt/mayfly/runners";

export const keptAfterAll = ["/usr/share/doc/*/copyright"];

/**
 * Every date in an image: 2025-01-01. A fixed one makes the same packages give the same bytes, and
 * one that is not 1970 keeps tools that mistrust such dates at peace.
 */
export const epochSeconds = 1_735_689_600;
