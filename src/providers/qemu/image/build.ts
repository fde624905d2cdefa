import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../../domain/errors.ts";
import type { Architecture } from "../../../domain/size.ts";
import { lastWords, runTool, toolEnvironment } from "../../child.ts";
import {
  bootstrap,
  chooseSuite,
  hostSuite,
  lock,
  refuseForeign,
  type Suite,
} from "../../debian.ts";
import { hostArchitecture } from "../../local.ts";
import { makeEc2Initramfs, makeInitramfs } from "./initramfs.ts";
import { fetchKernel } from "./kernel-package.ts";
import { digestOfFiles, ec2Part, manifestName, measure, parts, readImage } from "./manifest.ts";
import type { Files, Manifest, Part, StoredImage } from "./manifest.ts";
import { readPackages } from "./packages.ts";
import { debianNames, epochSeconds, keptAfterAll, leftOut, packagesOf, recipe } from "./recipe.ts";
import type { Variant } from "./recipe.ts";
import { makeUki } from "./uki.ts";

export interface ImageOptions {
  /** Where all images are. */
  readonly folder: string;
  readonly variant: Variant;
  readonly architecture: Architecture;
  /** A release of the host's own distribution; null: the host's own. */
  readonly suite: string | null;
  /** Also with what EC2's firmware boots it by. */
  readonly forEc2?: boolean;
  /** Throws when the image does not boot; it is not kept then. */
  readonly check?: (image: StoredImage, signal: AbortSignal) => Promise<void>;
}

export const unfinished = ".building-";
const mend =
  "install what makes images: apt-get install mmdebstrap squashfs-tools kmod uidmap xz-utils zstd";

/**
 * Makes an image for machines from the distribution's packages, as `<folder>/<digest>`: the same
 * packages give the same bytes. One build at a time in a folder; what a killed one left is removed
 * by the next. `progress` gets a line a step. Throws `invalid` when a tool is missing or fails, and
 * what `check` throws.
 */
export async function buildImage(
  options: ImageOptions,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<StoredImage> {
  const { folder, architecture } = options;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const unlock = await lock(join(folder, "lock"), signal);
  const scratch = join(folder, `${unfinished}${randomBytes(4).toString("hex")}`);
  try {
    await sweep(folder);
    await mkdir(scratch, { mode: 0o700 });
    const suite = chooseSuite(await hostSuite(), options.suite);
    const { variant, forEc2 = false } = options;
    const builder = { scratch, suite, architecture, variant, forEc2 };
    const image = await build(builder, progress, signal);
    if (options.check !== undefined) {
      progress("trying whether it boots");
      await options.check(image, signal);
    }
    return await keep(image, folder);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    unlock();
  }
}

/** Removes what killed builds left. Only with the lock. */
async function sweep(folder: string): Promise<void> {
  for (const entry of await readdir(folder)) {
    if (entry.startsWith(unfinished)) await rm(join(folder, entry), { recursive: true });
  }
}

interface Builder {
  readonly scratch: string;
  readonly suite: Suite;
  readonly architecture: Architecture;
  readonly variant: Variant;
  readonly forEc2: boolean;
}

/**
 * EC2 shows what the last console that is there says, the serial port; arm64's is another in QEMU. A
 * kernel that panics starts again. Disks over the network may take their time, as Amazon's manual of
 * NVMe volumes advises.
 */
const common = "panic=-1 nvme_core.io_timeout=4294967295 quiet mayfly.ec2";
const commandLines = {
  x64: `console=tty0 console=ttyS0,115200 ${common}`,
  // With a screen's console before them, that one would be it where the last is missing.
  arm64: `console=ttyAMA0 console=ttyS0,115200 ${common}`,
} as const;

async function build(
  builder: Builder,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<StoredImage> {
  const { scratch, suite, architecture, variant } = builder;
  if (architecture !== hostArchitecture()) await refuseForeign(debianNames[architecture], signal);
  progress("fetching the kernel");
  const kernel = await fetchKernel(builder, progress, signal);
  const system = join(scratch, "system.tar");
  progress(`making a ${variant} system of ${suite.system} ${suite.suite}`);
  await makeSystem(builder, kernel.additions, system, progress, signal);
  progress("packing it");
  const image = join(scratch, "image");
  const tree = join(scratch, "tree");
  await mkdir(image, { mode: 0o755 });
  await mkdir(tree);
  await pack(system, join(image, "base.img"), signal);
  await unpackSome(system, tree, signal);
  await writeFile(join(image, "kernel"), kernel.image);
  const initramfs = await makeInitramfs(tree, kernel.modules);
  await writeFile(join(image, "initramfs"), initramfs);
  if (kernel.efi !== null) {
    const both = Buffer.concat([initramfs, await makeEc2Initramfs(kernel.modules)]);
    const uki = makeUki({
      ...kernel.efi,
      initramfs: both,
      commandLine: commandLines[architecture],
    });
    await writeFile(join(image, ec2Part), uki);
  }
  const packages = readPackages(await readFile(join(tree, "var/lib/dpkg/status"), "utf8"));
  const made: readonly Part[] = kernel.efi === null ? parts : [...parts, ec2Part];
  const measured = await Promise.all(made.map((part) => measure(join(image, part))));
  const files = Object.fromEntries(made.map((part, i) => [part, measured[i]])) as Files;
  const manifest: Manifest = {
    version: 1,
    digest: digestOfFiles(files),
    architecture,
    variant,
    system: suite.system,
    suite: suite.suite,
    recipe,
    kernelRelease: kernel.release,
    packages: [...packages, ...kernel.packages].sort((a, b) => (a.name < b.name ? -1 : 1)),
    files,
  };
  await writeFile(join(image, manifestName), `${JSON.stringify(manifest, null, 1)}\n`);
  return readImage(image);
}

async function makeSystem(
  { scratch, suite, architecture, variant }: Builder,
  additions: string,
  target: string,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const foreign = architecture !== hostArchitecture();
  const args = [
    "--variant=minbase",
    `--include=${packagesOf(variant).join(",")}`,
    ...(foreign ? [`--architectures=${debianNames[architecture]}`] : []),
    ...leftOut.map((path) => `--dpkgopt=path-exclude=${path}`),
    ...keptAfterAll.map((path) => `--dpkgopt=path-include=${path}`),
    // A tree that is thrown away when anything fails needs no sync after each file.
    "--dpkgopt=force-unsafe-io",
    `--customize-hook=tar-in ${additions} /`,
    // The host's own, and what differs from one making to the next.
    '--customize-hook=cd "$1" && rm -rf etc/hostname etc/resolv.conf var/cache/ldconfig/aux-cache var/cache/debconf/*-old var/lib/dpkg/*-old && find var/log -type f -delete && : >etc/machine-id',
  ];
  const environment = { SOURCE_DATE_EPOCH: String(epochSeconds) };
  await bootstrap({ suite, args, target, scratch, environment }, progress, signal);
}

/** LZ4, since an emulated processor reads it the fastest. */
async function pack(system: string, target: string, signal: AbortSignal): Promise<void> {
  const options = "-tar -comp lz4 -noappend -quiet -no-progress -root-mode 0755";
  const script = `exec mksquashfs - "$2" ${options} <"$1"`;
  const epoch = { SOURCE_DATE_EPOCH: String(epochSeconds) };
  await run("sh", ["-c", script, "sh", system, target], signal, epoch);
}

/** What the initramfs and the manifest are made of. */
async function unpackSome(system: string, tree: string, signal: AbortSignal): Promise<void> {
  const wanted = [
    "./usr/bin/perl",
    "./usr/lib/*-linux-gnu/ld-linux-*",
    "./usr/lib/*-linux-gnu/lib[cm].so.*",
    "./usr/lib/*-linux-gnu/libcrypt.so.*",
    "./usr/lib/*-linux-gnu/perl-base/strict.pm",
    "./var/lib/dpkg/status",
  ];
  await run(
    "tar",
    ["-xf", system, "-C", tree, "--no-same-owner", "--wildcards", ...wanted],
    signal,
  );
}

/** Under its digest; when that is there already, it is the same. */
async function keep(image: StoredImage, folder: string): Promise<StoredImage> {
  const place = join(folder, image.digest);
  await rm(place, { recursive: true, force: true });
  await rename(image.folder, place);
  return readImage(place);
}

async function run(
  tool: string,
  args: readonly string[],
  signal: AbortSignal,
  more: NodeJS.ProcessEnv = {},
): Promise<void> {
  const environment = { ...toolEnvironment(), ...more };
  const { code, stderr } = await runTool(tool, args, {
    signal,
    environment,
    mend,
    wholeGroup: true,
  });
  if (code === 127) throw new ProviderError("invalid", mend);
  if (code !== 0) throw new ProviderError("invalid", `${tool} failed: ${lastWords(stderr)}`);
}
