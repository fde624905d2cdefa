import { join, resolve } from "node:path";
import { MayflyError, ProviderError } from "../domain/errors.ts";
import type { Architecture } from "../domain/size.ts";
import { buildImage } from "../providers/qemu/image/build.ts";
import { findImage, listImages, pruneImages } from "../providers/qemu/image/images.ts";
import { partsOf, type StoredImage } from "../providers/qemu/image/manifest.ts";
import { variants, type Variant } from "../providers/qemu/image/recipe.ts";
import { tryImage } from "../providers/qemu/try-image.ts";
import { hostArchitecture } from "../providers/local.ts";
import { bytesText, duration } from "../web/words.ts";
import { exit } from "./exit.ts";
import { defaultStateFolder } from "./places.ts";
import type { CommonFlags } from "./program.ts";
import { table, type Column } from "./table.ts";
import { columnsOf, note, painter, print } from "./terminal.ts";

/*
 * `mayfly image ...`: the images that QEMU machines boot.
 */

export interface ImageFlags extends CommonFlags {
  readonly state?: string;
}

/** Where images are to be, besides here: at a provider's. */
export interface PlaceFlags extends ImageFlags {
  readonly for?: string;
  readonly provider?: string;
  readonly region?: string;
  readonly config?: string;
}

export interface BuildFlags extends PlaceFlags {
  readonly disk?: string;
  readonly variant?: string;
  readonly arch?: string;
  readonly suite?: string;
}

/** `mayfly image build`: makes one, and prints its digest. */
export async function build(flags: BuildFlags): Promise<number> {
  const folder = imagesFolder(flags);
  const architecture = architectureOf(flags.arch ?? hostArchitecture() ?? "x64");
  const variant = variantOf(flags.variant ?? "minimal");
  const ec2 = isForEc2(flags)
    ? await (await import("./image-ec2.ts")).ec2Target(flags, folder, architecture)
    : null;
  const suite = flags.suite ?? null;
  const forEc2 = ec2 !== null;
  const options = { folder, variant, architecture, suite, forEc2, check: tryImage };
  const began = performance.now();
  const paint = painter(process.stderr);
  const progress = (line: string): void => {
    const at = ((performance.now() - began) / 1000).toFixed(0).padStart(4);
    note(paint("dim", `${at} s  ${line}`));
  };
  const interrupted = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => interrupted.abort());
  }
  try {
    const image = await explained(buildImage(options, progress, interrupted.signal));
    const more = await (ec2 && explained(ec2.finish(image, progress, interrupted.signal)));
    const { shown, ...rest } = more ?? { shown: image.digest };
    await print(flags.json ? JSON.stringify({ ...summary(image), ...rest }) : shown);
    return exit.ok;
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    const left =
      forEc2 && flags.disk === undefined
        ? "run again, it goes on where it was"
        : "nothing is left of it";
    note(`${paint("red", "mayfly:")} interrupted; ${left}`);
    return exit.interrupted;
  }
}

/** `mayfly image list`. */
export async function list(flags: PlaceFlags): Promise<number> {
  if (isForEc2(flags)) {
    return (await import("./image-ec2.ts")).listEc2(flags, imagesFolder(flags), printTable);
  }
  const { images, damaged } = await listImages(imagesFolder(flags));
  if (flags.json) {
    await print(JSON.stringify({ images: images.map(summary), damaged }));
    return exit.ok;
  }
  const now = Date.now();
  const columns: Column<StoredImage>[] = [
    { title: "IMAGE", text: ({ digest }) => digest.slice(0, 12) },
    { title: "VARIANT", text: ({ variant }) => variant },
    { title: "ARCH", text: ({ architecture }) => architecture },
    { title: "SUITE", text: ({ system, suite }) => `${system} ${suite}` },
    { title: "KERNEL", text: ({ kernelRelease }) => kernelRelease, optional: true },
    { title: "SIZE", text: (image) => bytesText(bytesOf(image)), align: "right" },
    { title: "AGE", text: ({ createdAt }) => duration(now - createdAt), align: "right" },
  ];
  if (images.length === 0) note("No images yet; make one: mayfly image build");
  else await printTable(images, columns);
  for (const { folder, reason } of damaged) note(`damaged: ${folder}: ${reason}`);
  return exit.ok;
}

/** `mayfly image show`: what one holds, package by package. */
export async function show(ref: string, flags: ImageFlags): Promise<number> {
  const image = await explained(findImage(imagesFolder(flags), ref, null));
  if (flags.json) {
    await print(
      JSON.stringify({ ...summary(image), packages: image.packages, files: image.files }),
    );
    return exit.ok;
  }
  const { digest, variant, architecture, system, suite, kernelRelease, folder } = image;
  await print(`${variant} ${architecture} ${system} ${suite}, Linux ${kernelRelease}`);
  await print(`digest  ${digest}\nfolder  ${folder}`);
  for (const [part, { bytes }] of partsOf(image.files)) {
    await print(`${part.padEnd(10)} ${bytesText(bytes)}`);
  }
  const columns: Column<Package>[] = [
    { title: "PACKAGE", text: ({ name }) => name },
    { title: "VERSION", text: ({ version }) => version },
    { title: "UNPACKED", text: ({ bytes }) => bytesText(bytes), align: "right" },
  ];
  await printTable(image.packages, columns);
  return exit.ok;
}

/** `mayfly image prune`. */
export async function prune(
  flags: PlaceFlags & { readonly all?: true; readonly dryRun?: true },
): Promise<number> {
  const options = { all: flags.all === true, dryRun: flags.dryRun === true };
  if (isForEc2(flags)) {
    return (await import("./image-ec2.ts")).pruneEc2(flags, imagesFolder(flags), options);
  }
  const signal = AbortSignal.timeout(10 * 60_000);
  const pruned = await explained(pruneImages(imagesFolder(flags), { ...options, signal }));
  if (flags.json) {
    await print(JSON.stringify({ ...pruned, dryRun: options.dryRun }));
    return exit.ok;
  }
  for (const folder of pruned.removed) await print(folder);
  const verb = options.dryRun ? "would be" : "are";
  note(`${pruned.removed.length} ${verb} removed, ${bytesText(pruned.bytes)}`);
  return exit.ok;
}

function isForEc2({ for: place }: PlaceFlags): boolean {
  if (place === undefined || place === "ec2") return place !== undefined;
  throw new MayflyError("invalid", `there are no images for ${JSON.stringify(place)}`, {
    where: "--for",
    hint: "There is: ec2.",
  });
}

type Package = StoredImage["packages"][number];

export function imagesFolder({ state }: ImageFlags): string {
  return join(state === undefined ? defaultStateFolder(process.env) : resolve(state), "images");
}

function summary(image: StoredImage) {
  const { digest, variant, architecture, system, suite, kernelRelease, createdAt, folder } = image;
  const bytes = bytesOf(image);
  return { digest, variant, architecture, system, suite, kernelRelease, bytes, createdAt, folder };
}

function bytesOf({ files }: StoredImage): number {
  return partsOf(files).reduce((sum, [, { bytes }]) => sum + bytes, 0);
}

function variantOf(word: string): Variant {
  const found = variants.find((variant) => variant === word);
  if (found !== undefined) return found;
  throw new MayflyError("invalid", `there is no variant ${JSON.stringify(word)}`, {
    where: "--variant",
    hint: `There are: ${variants.join(", ")}.`,
  });
}

function architectureOf(word: string): Architecture {
  if (word === "x64" || word === "arm64") return word;
  throw new MayflyError("invalid", `there is no architecture ${JSON.stringify(word)}`, {
    where: "--arch",
    hint: "There are: x64, arm64.",
  });
}

/** A provider's refusal in the words of the command line. */
async function explained<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    throw new MayflyError(error.kind === "invalid" ? "invalid" : "unavailable", error.message);
  }
}

async function printTable<T>(rows: readonly T[], columns: readonly Column<T>[]): Promise<void> {
  const lines = table(rows, columns, columnsOf(process.stdout), painter(process.stdout));
  for (const line of lines) await print(line);
}
