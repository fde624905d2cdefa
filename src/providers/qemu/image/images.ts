import { readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../../domain/errors.ts";
import type { Architecture } from "../../../domain/size.ts";
import { lock } from "../../debian.ts";
import { unfinished } from "./build.ts";
import { partsOf, readImage, verifyImage, type StoredImage } from "./manifest.ts";
import { variants } from "./recipe.ts";

/** All there is in a folder of images. */
export interface Listing {
  /** The newest first. */
  readonly images: readonly StoredImage[];
  /** Folders that should hold an image but do not, with the reason. */
  readonly damaged: readonly { readonly folder: string; readonly reason: string }[];
}

/** The images in `folder`, by their manifests alone; none when there is no such folder. */
export async function listImages(folder: string): Promise<Listing> {
  const images: StoredImage[] = [];
  const damaged: { folder: string; reason: string }[] = [];
  for (const name of (await readdir(folder).catch(() => [])).sort((a, b) => (a < b ? -1 : 1))) {
    if (!/^[0-9a-f]{64}$/.test(name)) continue;
    const place = join(folder, name);
    try {
      const image = await readImage(place);
      if (image.digest === name) images.push(image);
      else damaged.push({ folder: place, reason: "its manifest is another's" });
    } catch (error) {
      damaged.push({ folder: place, reason: (error as Error).message });
    }
  }
  images.sort((a, b) => b.createdAt - a.createdAt || (a.digest < b.digest ? -1 : 1));
  return { images, damaged };
}

/**
 * The newest image that `ref` names: a variant, or the beginning of a digest, of at least six
 * digits. Throws `invalid` when there is none, or when several digests begin so.
 */
export async function findImage(
  folder: string,
  ref: string,
  architecture: Architecture | null,
): Promise<StoredImage> {
  const all = (await listImages(folder)).images.filter(
    (image) => architecture === null || image.architecture === architecture,
  );
  const byVariant = all.find(({ variant }) => variant === ref);
  if (byVariant !== undefined) return byVariant;
  const byDigest = /^[0-9a-f]{6,64}$/.test(ref) ? all.filter((i) => i.digest.startsWith(ref)) : [];
  if (byDigest.length > 1) throw new ProviderError("invalid", `several images begin with ${ref}`);
  if (byDigest[0] !== undefined) return byDigest[0];
  const isVariant = variants.some((variant) => variant === ref);
  const flags = `${isVariant ? ` --variant ${ref}` : ""}${architecture === null ? "" : ` --arch ${architecture}`}`;
  throw new ProviderError(
    "invalid",
    `there is no image ${JSON.stringify(ref)}${architecture === null ? "" : ` for ${architecture}`}; build one: mayfly image build${flags}`,
  );
}

const stampName = "verified.json";

/**
 * Throws `invalid` unless every byte of the image is what its manifest says. The files are read only
 * when they are not those that were found sound before: whoever writes to one changes its ctime,
 * which nobody can set.
 */
export async function verifyOnce(image: StoredImage): Promise<void> {
  const now = await stampOf(image);
  const stamp = join(image.folder, stampName);
  if (now !== null && (await readFile(stamp, "utf8").catch(() => null)) === now) return;
  await verifyImage(image);
  // A file that changed while it was read has another stamp by now, and is read again next time.
  if (now !== null) await writeFile(stamp, now).catch(() => {});
}

async function stampOf({ folder, files }: StoredImage): Promise<string | null> {
  const lines: string[] = [];
  for (const [part, { sha256 }] of partsOf(files)) {
    const found = await stat(join(folder, part), { bigint: true }).catch(() => null);
    if (found === null) return null;
    const { dev, ino, size, mtimeNs, ctimeNs } = found;
    lines.push([part, sha256, dev, ino, size, mtimeNs, ctimeNs].join(" "));
  }
  return `${lines.join("\n")}\n`;
}

export interface Pruned {
  readonly removed: readonly string[];
  readonly bytes: number;
}

/**
 * Removes what is damaged, what killed builds left, and every image that a newer one of the same
 * architecture, variant and suite replaces; with `all`, every image. A machine that runs keeps the
 * files it has open. `dryRun` only says what it would remove.
 */
export async function pruneImages(
  folder: string,
  { all, dryRun, signal }: { all: boolean; dryRun: boolean; signal: AbortSignal },
): Promise<Pruned> {
  if ((await stat(folder).catch(() => null)) === null) return { removed: [], bytes: 0 };
  const unlock = await lock(join(folder, "lock"), signal);
  try {
    const { images, damaged } = await listImages(folder);
    const seen = new Set<string>();
    const going = damaged.map((one) => one.folder);
    for (const image of images) {
      const kind = `${image.architecture} ${image.variant} ${image.system} ${image.suite}`;
      const sound = await verifyOnce(image).then(
        () => true,
        () => false,
      );
      if (all || !sound || seen.has(kind)) going.push(image.folder);
      if (sound) seen.add(kind);
    }
    for (const name of await readdir(folder)) {
      if (name.startsWith(unfinished)) going.push(join(folder, name));
    }
    let bytes = 0;
    for (const place of going) {
      bytes += await sizeOf(place);
      if (!dryRun) await remove(place, folder);
    }
    return { removed: going, bytes };
  } finally {
    unlock();
  }
}

/** Out of sight at once, so that nobody finds half of it. */
async function remove(place: string, folder: string): Promise<void> {
  const aside = join(folder, `${unfinished}${place.slice(place.lastIndexOf("/") + 1)}`);
  if (!place.includes(`/${unfinished}`)) await rename(place, aside);
  await rm(place.includes(`/${unfinished}`) ? place : aside, { recursive: true, force: true });
}

async function sizeOf(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}
