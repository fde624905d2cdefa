import { randomUUID } from "node:crypto";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { MayflyError, ProviderError } from "../domain/errors.ts";
import type { Architecture } from "../domain/size.ts";
import { counted } from "../domain/words.ts";
import { installationOf } from "../executor/run-folders.ts";
import { ImageCloud, type Published } from "../providers/ec2/image-cloud.ts";
import { prunePublished, publish } from "../providers/ec2/image-publish.ts";
import { ec2Options, type Ec2Options } from "../providers/ec2/options.ts";
import { unfinished } from "../providers/qemu/image/build.ts";
import { diskDigest, writeDisk } from "../providers/qemu/image/disk.ts";
import type { StoredImage } from "../providers/qemu/image/manifest.ts";
import { debianNames } from "../providers/qemu/image/recipe.ts";
import { missingFirmware, tryDisk } from "../providers/qemu/try-disk.ts";
import { duration } from "../web/words.ts";
import { exit } from "./exit.ts";
import { makeFolder } from "./places.ts";
import { readConfig } from "./setting.ts";
import type { Column } from "./table.ts";
import { note, print } from "./terminal.ts";

/*
 * `mayfly image ... --for ec2`: images of an AWS account, made of the same packages as QEMU's.
 */

export interface Ec2Flags {
  readonly provider?: string;
  readonly region?: string;
  readonly config?: string;
  readonly state?: string;
  readonly json?: true;
}

/** Where the images are, and which of them a configuration names. */
interface Account {
  readonly options: Pick<Ec2Options, "region" | "endpoint" | "accessKey">;
  readonly named: ReadonlySet<string>;
}

/** What becomes of an image once it is built. */
export interface Ec2Target {
  finish(
    image: StoredImage,
    progress: (line: string) => void,
    signal: AbortSignal,
  ): Promise<Record<string, unknown> & { readonly shown: string }>;
}

/**
 * What `image build --for ec2` is to do after building, and whether it can: found out before, since
 * building takes minutes. `folder` is that of images.
 */
export async function ec2Target(
  flags: Ec2Flags & { readonly disk?: string },
  folder: string,
  architecture: Architecture,
): Promise<Ec2Target> {
  const missing = await missingFirmware(architecture);
  if (missing !== null) throw new MayflyError("unavailable", missing);
  if (flags.disk !== undefined) return { finish: diskFile(resolve(flags.disk)) };
  const account = await accountOf(flags);
  return {
    finish: async (image, progress, signal) => {
      const made = await send(account, image, folder, progress, signal);
      const { id, name, gib, wasThere } = made;
      if (wasThere) progress(`${id} is of the same bytes: nothing was sent`);
      return { ami: id, name, gib, region: account.options.region, wasThere, shown: id };
    },
  };
}

/** Writes the disk only, for whoever imports it in another way. */
function diskFile(path: string): Ec2Target["finish"] {
  return async (image, progress, signal) => {
    const draft = join(dirname(path), `.${basename(path)}.${process.pid}`);
    try {
      progress("writing the disk");
      const { gib } = await writeDisk(image, draft);
      await tried(draft, image, progress, signal);
      await rename(draft, path);
      return { disk: path, diskDigest: diskDigest(image), gib, shown: path };
    } finally {
      await rm(draft, { force: true });
    }
  };
}

async function tried(
  path: string,
  image: StoredImage,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  progress("trying whether the disk boots");
  await tryDisk(path, image.architecture, signal);
}

async function send(
  { options }: Account,
  image: StoredImage,
  folder: string,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<Published & { readonly wasThere: boolean }> {
  const installation = await installationOf(dirname(folder));
  const { variant, system, suite, architecture } = image;
  const disk = diskDigest(image);
  const debian = debianNames[architecture];
  const name = `mayfly-${variant}-${debian}-${installation}-${disk.slice(0, 12)}`;
  const kind = `${variant} ${debian} ${system} ${suite}`;
  // A build sweeps what has such a name away.
  const scratch = await mkdtemp(join(folder, unfinished));
  const cloud = new ImageCloud({ ...options, installation }, signal);
  const write = async (): Promise<{ path: string; gib: number }> => {
    const path = join(scratch, "disk");
    progress("writing the disk");
    const { gib } = await writeDisk(image, path);
    await tried(path, image, progress, signal);
    return { path, gib };
  };
  const notes = join(folder, "uploads");
  const token = randomUUID();
  try {
    return await publish(cloud, { disk, kind, name, architecture, write, notes, token }, progress);
  } finally {
    cloud.close();
    await rm(scratch, { recursive: true, force: true });
  }
}

/** `mayfly image list --for ec2`, the newest first. */
export async function listEc2(
  flags: Ec2Flags,
  folder: string,
  show: (rows: readonly Published[], columns: readonly Column<Published>[]) => Promise<void>,
): Promise<number> {
  const images = await withCloud(flags, folder, async (cloud) =>
    (await cloud.images(null)).toSorted((a, b) => b.createdAt - a.createdAt),
  );
  if (flags.json) {
    await print(JSON.stringify({ images }));
    return exit.ok;
  }
  const now = Date.now();
  if (images.length === 0) note("No images there yet; make one: mayfly image build --for ec2");
  else {
    await show(images, [
      { title: "AMI", text: ({ id }) => id },
      { title: "KIND", text: ({ kind }) => kind },
      { title: "STATE", text: ({ state }) => state },
      { title: "DISK", text: ({ disk }) => disk.slice(0, 12) },
      { title: "NAME", text: ({ name }) => name, optional: true },
      { title: "VOLUME", text: ({ gib }) => `${gib} GiB`, align: "right" },
      { title: "AGE", text: ({ createdAt }) => duration(now - createdAt), align: "right" },
    ]);
  }
  return exit.ok;
}

/** `mayfly image prune --for ec2`. */
export async function pruneEc2(
  flags: Ec2Flags,
  folder: string,
  options: { readonly all: boolean; readonly dryRun: boolean },
): Promise<number> {
  const pruned = await withCloud(flags, folder, (cloud, { named }) =>
    prunePublished(cloud, { ...options, keep: named, now: Date.now() }),
  );
  const { images, snapshots } = pruned;
  if (flags.json) {
    const ids = images.map(({ id }) => id);
    await print(JSON.stringify({ images: ids, snapshots, dryRun: options.dryRun }));
    return exit.ok;
  }
  for (const { id, name } of images) await print(`${id} ${name}`);
  for (const id of snapshots) await print(id);
  const verb = options.dryRun ? "would be" : "are";
  const what = `${counted(images.length, "image")} and ${counted(snapshots.length, "snapshot")}`;
  note(`${what} ${verb} removed`);
  return exit.ok;
}

const limitMs = 10 * 60_000;

async function withCloud<T>(
  flags: Ec2Flags,
  folder: string,
  work: (cloud: ImageCloud, account: Account) => Promise<T>,
): Promise<T> {
  const account = await accountOf(flags);
  makeFolder(dirname(folder));
  const installation = await installationOf(dirname(folder));
  const signal = AbortSignal.timeout(limitMs);
  const cloud = new ImageCloud({ ...account.options, installation }, signal);
  try {
    return await work(cloud, account);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    throw new MayflyError(error.kind === "invalid" ? "invalid" : "unavailable", error.message);
  } finally {
    cloud.close();
  }
}

/** That of `--region`, of `--provider`, or of the only provider of EC2 that is configured. */
async function accountOf(flags: Ec2Flags): Promise<Account> {
  const { region, provider } = flags;
  if (region !== undefined) {
    const parsed = ec2Options.shape.region.safeParse(region);
    if (parsed.success) return { options: { region }, named: new Set() };
    throw new MayflyError("invalid", `${JSON.stringify(region)} is no region of AWS`, {
      where: "--region",
      hint: "They are named like eu-central-1.",
    });
  }
  const config = await readConfig(flags);
  const all = config.providers.filter(({ kind }) => kind === "ec2");
  const [found, ...more] =
    provider === undefined ? all : all.filter(({ name }) => name === provider);
  if (found === undefined || more.length > 0) {
    const which = provider === undefined ? "" : ` ${JSON.stringify(provider)}`;
    const fault = found === undefined ? `no provider${which} of kind ec2 is` : "several are";
    const names = all.map(({ name }) => name).join(", ");
    throw new MayflyError("invalid", `${fault} configured`, {
      where: "--provider",
      hint: names === "" ? "Say where by --region." : `There are: ${names}. Or say --region.`,
    });
  }
  const { region: at, endpoint, accessKey } = ec2Options.parse(found.options);
  const options = {
    region: at,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(accessKey === undefined ? {} : { accessKey }),
  };
  const parts = [...config.pools.map(({ image }) => image), JSON.stringify(config.providers)];
  const named = new Set(parts.flatMap((text) => text?.match(/ami-[0-9a-f]{8,17}/g) ?? []));
  return { options, named };
}
