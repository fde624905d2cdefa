/** What the first process loads before it says that it is ready, each with what it depends on. */
export const bootModules = [
  "virtio_mmio",
  "virtio_pci",
  "virtio_blk",
  "virtio_console",
  "squashfs",
  "overlay",
  "virtio_net",
  "dm_crypt",
  "xts",
  // Only where the processor has them; skipped when the kernel has none.
  "aesni_intel",
  "aes_ce_blk",
  "fuse",
  "binfmt_misc",
];

/** What a machine of EC2 loads besides: its disk, its network card, and its power button. */
export const ec2Modules = ["nvme", "ena", "button", "evdev"];

/** What a job may need besides, left in the image for the kernel to load when asked. */
const jobModules: readonly RegExp[] = [
  /^kernel\/net\/(netfilter|bridge|ipv4|ipv6|sched|802|8021q|xfrm|packet|unix|tls|vmw_vsock)\//,
  /^kernel\/drivers\/net\/(tun|tap|veth|dummy|macvlan|macvtap|vxlan|geneve|virtio_net|bonding\/.*|ipvlan\/.*|wireguard\/.*)\.ko/,
  /^kernel\/drivers\/(block\/(loop|nbd|brd|zram\/.*|virtio_blk)|md\/.*|virtio\/.*)\.ko/,
  /^kernel\/drivers\/char\/(virtio_console|hw_random\/virtio-rng)\.ko/,
  /^kernel\/fs\/(fuse|overlayfs|ext4|xfs|btrfs|squashfs|erofs|isofs|fat|udf|nls|binfmt_misc|autofs)/,
  /^kernel\/(crypto|lib|arch\/[^/]*\/crypto)\//,
];

/** `modules.dep` of depmod: each module's file and the files it needs, nearest first. */
export function readDependencies(text: string): Map<string, readonly string[]> {
  const all = new Map<string, readonly string[]>();
  for (const line of text.split("\n")) {
    const [file, needs = ""] = line.split(":");
    if (file) all.set(file, needs.split(" ").filter(Boolean));
  }
  return all;
}

/** A module is asked for as `dm_crypt` and lies in `dm-crypt.ko`, or packed as `.ko.xz`. */
export function moduleName(file: string): string {
  const name = file.slice(file.lastIndexOf("/") + 1);
  return name.replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");
}

/** The files of the modules asked for and of all that they need, each after what it needs. */
export function inLoadOrder(
  wanted: readonly string[],
  dependencies: ReadonlyMap<string, readonly string[]>,
): string[] {
  const order = new Set<string>();
  const byName = new Map([...dependencies.keys()].map((file) => [moduleName(file), file]));
  for (const name of wanted) {
    const file = byName.get(name);
    if (file === undefined) continue;
    // depmod lists all that a module needs, and what is needed first stands last.
    for (const need of (dependencies.get(file) ?? []).toReversed()) order.add(need);
    order.add(file);
  }
  return [...order];
}

/** The files of the job's modules and of all that they need. */
export function forJobs(dependencies: ReadonlyMap<string, readonly string[]>): string[] {
  const kept = new Set<string>();
  for (const [file, needs] of dependencies) {
    if (!jobModules.some((pattern) => pattern.test(file))) continue;
    for (const one of [file, ...needs]) kept.add(one);
  }
  return [...kept].sort();
}
