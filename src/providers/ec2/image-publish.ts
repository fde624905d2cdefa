import { rm } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import type { Architecture } from "../../domain/size.ts";
import type { ImageCloud, Labels, Published } from "./image-cloud.ts";
import { upload } from "./image-upload.ts";

const availableWithinMs = 15 * 60_000;
/** Between a snapshot and its image there are minutes; one that is older has none any more. */
const strayMs = 24 * 3600_000;

/** A disk that is to be an image in EC2. */
export interface Disk extends Labels {
  readonly architecture: Architecture;
  /** Writes it if it is needed, and gives its path and its size in whole GiB. */
  readonly write: () => Promise<{ path: string; gib: number }>;
  readonly notes: string;
  /** A new one for each call of `publish`. */
  readonly token: string;
}

/**
 * The image in EC2 of this disk: the one that is there, else a new one, for which the disk is
 * written and sent. `progress` gets a line a step. What was interrupted is gone on with.
 */
export async function publish(
  cloud: ImageCloud,
  disk: Disk,
  progress: (line: string) => void,
): Promise<Published & { readonly wasThere: boolean }> {
  const known = await cloud.images(disk.disk);
  const wasThere = known.some(({ state }) => state === "available" || state === "pending");
  if (!wasThere) {
    const snapshot = await snapshotFor(cloud, disk, progress);
    progress("registering the image");
    await cloud.register(disk, snapshot, disk.architecture);
  }
  const image = await cloud.until("the image", availableWithinMs, async () => {
    const found = (await cloud.images(disk.disk)).filter(({ state }) => state !== "deregistered");
    const failed = found.find(({ state }) => state === "failed" || state === "error");
    if (failed !== undefined) {
      throw new ProviderError("invalid", `EC2 could not make ${failed.id} of the snapshot`);
    }
    return found.find(({ state }) => state === "available") ?? null;
  });
  return { ...image, wasThere };
}

/** A whole snapshot of the disk. */
async function snapshotFor(
  cloud: ImageCloud,
  disk: Disk,
  progress: (line: string) => void,
): Promise<string> {
  const known = await cloud.snapshots(disk.disk);
  const whole = known.find(({ state }) => state === "completed");
  if (whole !== undefined) return whole.id;
  for (const { id, state } of known) {
    if (state !== "error") continue;
    await cloud.remove(id);
    await rm(join(disk.notes, id), { force: true });
  }
  const { path, gib } = await disk.write();
  const begun = known.find(({ state }) => state === "pending");
  if (begun !== undefined) progress(`going on with ${begun.id}`);
  const snapshot = begun?.id ?? (await cloud.start(disk, gib, disk.token));
  let told = -1;
  await upload(cloud, { path, snapshot, notes: disk.notes }, (sent, all) => {
    const tenth = Math.floor((10 * sent) / Math.max(1, all));
    if (tenth === told) return;
    told = tenth;
    progress(`${snapshot}: ${sent} of ${all} blocks are there`);
  });
  return snapshot;
}

export interface Pruned {
  readonly images: readonly Published[];
  readonly snapshots: readonly string[];
}

/**
 * Removes each of our images that a newer one of its kind replaces (with `all`, each one), unless
 * an instance is made from it or `keep` names it, and the snapshots of ours that failed or whose
 * image is gone. `dryRun` only says what it would remove.
 */
export async function prunePublished(
  cloud: ImageCloud,
  options: {
    readonly all: boolean;
    readonly dryRun: boolean;
    readonly keep: ReadonlySet<string>;
    readonly now: number;
  },
): Promise<Pruned> {
  const { all, dryRun, keep, now } = options;
  // Snapshots first: an image that comes to be in between keeps its own.
  const snapshots = await cloud.snapshots(null);
  const images = (await cloud.images(null)).toSorted((a, b) => b.createdAt - a.createdAt);
  const used = await cloud.used(images.map(({ id }) => id));
  const seen = new Set<string>();
  const going = images.filter(({ id, kind, state }) => {
    const isReplaced = seen.has(kind);
    if (state === "available") seen.add(kind);
    return (all || isReplaced) && !used.has(id) && !keep.has(id);
  });
  const staying = new Set(
    images.filter((image) => !going.includes(image)).flatMap((image) => image.snapshots),
  );
  const withThem = new Set(going.flatMap((image) => image.snapshots));
  const stray = snapshots.filter(
    ({ id, state, startedAt }) =>
      !staying.has(id) &&
      (withThem.has(id) ||
        state === "error" ||
        (state === "completed" && now - startedAt > strayMs)),
  );
  if (!dryRun) {
    for (const { id } of going) await cloud.deregister(id);
    for (const { id } of stray) await cloud.remove(id);
  }
  return { images: going, snapshots: stray.map(({ id }) => id) };
}
