import { cp, mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ProviderError } from "../../../domain/errors.ts";
import type { Architecture } from "../../../domain/size.ts";
import { lastWords, runTool, toolEnvironment } from "../../child.ts";
import { bootstrap, type Suite } from "../../debian.ts";
import { hostArchitecture } from "../../local.ts";
import { unpackKernel } from "./kernel.ts";
import { forJobs, readDependencies } from "./modules.ts";
import { readPackages, type Package } from "./packages.ts";
import { debianNames, epochSeconds, kernelPackage, runnersFolder } from "./recipe.ts";

export interface Kernel {
  readonly image: Buffer;
  readonly release: string;
  readonly packages: readonly Package[];
  /** Its modules, with depmod's lists. */
  readonly modules: string;
  /** What firmware starts it by; null unless it is asked for. */
  readonly efi: { readonly stub: Buffer; readonly kernel: Buffer } | null;
  /** A .tar of what is laid over the system: modules for jobs and our settings. */
  readonly additions: string;
}

interface Place {
  readonly scratch: string;
  readonly suite: Suite;
  readonly architecture: Architecture;
  readonly forEc2: boolean;
}

const mend = "install what makes images: apt-get install mmdebstrap kmod xz-utils zstd";

/** Fetches the suite's newest kernel for virtual machines, and unpacks it; nothing is installed. */
export async function fetchKernel(
  place: Place,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<Kernel> {
  const { scratch } = place;
  const run: Run = async (tool, args) => {
    const environment = toolEnvironment();
    const { code, stdout, stderr } = await runTool(tool, args, { signal, environment, mend });
    if (code === 0) return stdout;
    throw new ProviderError("invalid", `${tool} failed: ${lastWords(stderr)}`);
  };
  const archives = await download(place, progress, signal);
  const tree = join(scratch, "kernel-tree");
  const packages: Package[] = [];
  for (const archive of archives) {
    await run("dpkg", ["-x", archive, tree]);
    packages.push(...readPackages(await run("dpkg", ["-f", archive])));
  }
  // Newer packages have them in usr/lib, and depmod looks in lib only; a link that is there stays.
  await symlink("usr/lib", join(tree, "lib")).catch(() => {});
  const lib = join(tree, "lib/modules");
  const [release] = await readdir(lib).catch(() => []);
  if (release === undefined) throw new ProviderError("invalid", "the kernel has no modules");
  await unpackModules(tree, run);
  await run("depmod", ["-b", tree, release]);
  const modules = join(lib, release);
  const packed = await readFile(join(tree, "boot", `vmlinuz-${release}`));
  const image = unpackKernel(packed);
  const efi = place.forEc2
    ? { kernel: packed, stub: await readFile(join(tree, stubs[place.architecture])) }
    : null;
  const over = join(scratch, "additions");
  await addModules(modules, join(over, "usr/lib/modules", release));
  // depmod looks below lib, which a system of today has as a link.
  await symlink("usr/lib", join(over, "lib"));
  await run("depmod", ["-b", over, release]);
  await addSettings(over);
  const additions = join(scratch, "additions.tar");
  const owner = [
    "--owner=0",
    "--group=0",
    "--mode=go-w",
    "--sort=name",
    `--mtime=@${epochSeconds}`,
  ];
  await run("tar", ["-cf", additions, "-C", over, ...owner, "etc", "opt", "usr"]);
  return { image, release, packages, modules, efi, additions };
}

/** Where systemd-boot-efi has what makes one EFI program of a kernel and its first file system. */
const stubs = {
  x64: "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
  arm64: "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
} as const;

type Run = (tool: string, args: readonly string[]) => Promise<string>;

/** Newer kernels come with packed modules, which the first process would have to unpack. */
async function unpackModules(tree: string, run: Run): Promise<void> {
  for (const [end, ...tool] of [
    ["xz", "xz", "--decompress"],
    ["zst", "zstd", "--quiet", "--decompress", "--rm"],
  ]) {
    await run("find", [tree, "-name", `*.ko.${end}`, "-exec", ...tool, "--", "{}", "+"]);
  }
}

/** The kernel's archives, by apt in a system with nothing in it, so that any suite will do. */
async function download(
  { scratch, suite, architecture, forEc2 }: Place,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<string[]> {
  const meta = kernelPackage(suite.system, architecture);
  const only = [
    "pre-depends",
    "recommends",
    "suggests",
    "conflicts",
    "breaks",
    "replaces",
    "enhances",
  ];
  const script = [
    'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; mkdir "$1/kernel" && cd "$1/kernel" || exit 1',
    `names=$(apt-cache depends --recurse ${only.map((word) => `--no-${word}`).join(" ")} ${meta}`,
  ].join("; ");
  const which = ` | grep -E "^linux-(image|modules)-[0-9]" | sort -u)`;
  const fetch = `apt-get -qq download $names${forEc2 ? " systemd-boot-efi" : ""}`;
  const args = [
    "--variant=custom",
    ...(architecture === hostArchitecture()
      ? []
      : // Nothing is run in there, so no emulator is looked for.
        [`--architectures=${debianNames[architecture]}`, "--skip=check/qemu"]),
    `--customize-hook=${script}${which}; ${fetch}`,
    `--customize-hook=copy-out /kernel ${scratch}`,
  ];
  await bootstrap({ suite, args, target: "/dev/null", scratch }, progress, signal);
  const folder = join(scratch, "kernel");
  const archives = (await readdir(folder)).filter((name) => name.endsWith(".deb")).sort();
  if (archives.length === 0) throw new ProviderError("invalid", `${suite.suite} has no ${meta}`);
  return archives.map((name) => join(folder, name));
}

async function addModules(from: string, to: string): Promise<void> {
  const dependencies = readDependencies(await readFile(join(from, "modules.dep"), "utf8"));
  const lists = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];
  for (const file of [...forJobs(dependencies), ...lists]) {
    await mkdir(dirname(join(to, file)), { recursive: true });
    await cp(join(from, file), join(to, file));
  }
}

/** A machine has no systemd, so podman keeps its control groups itself. */
const containers = `[containers]
default_ulimits = ["nofile=65536:65536"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
`;

async function addSettings(over: string): Promise<void> {
  await mkdir(join(over, runnersFolder), { recursive: true });
  await mkdir(join(over, "etc/containers"), { recursive: true });
  await writeFile(join(over, "etc/containers/containers.conf"), containers);
}
