import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { ProviderError } from "../../domain/errors.ts";
import type { Architecture } from "../../domain/size.ts";
import { quote } from "../../domain/words.ts";

const fileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/);

/** What `image.json` in an image's folder says of it. */
const manifest = z.object({
  id: z.string().min(1).max(200),
  architecture: z.enum(["x64", "arm64"]),
  kernel: fileName,
  initrd: fileName.nullable().default(null),
  root: fileName,
  append: z.string().max(1_000).default(""),
  files: z.record(
    fileName,
    z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/), bytes: z.number().int().min(0) }),
  ),
});

export interface StoredImage {
  readonly id: string;
  readonly architecture: Architecture;
  /** Paths on this host. */
  readonly kernel: string;
  readonly initrd: string | null;
  readonly root: string;
  readonly append: string;
}

/** Reads images and compares every byte with their manifests, once as long as no file changes. */
export class StoredImages {
  readonly #sound = new Map<string, string>();

  /** What the manifest in `folder` says; throws `invalid` when there is none that can be read. */
  static async describe(folder: string): Promise<StoredImage> {
    return imageOf(folder, await readManifest(folder));
  }

  /**
   * The image in `folder`. Throws `invalid` when there is none or when a file of it is not what its
   * manifest says.
   */
  async load(folder: string, signal: AbortSignal): Promise<StoredImage> {
    const found = await readManifest(folder);
    for (const name of [found.kernel, found.root, found.initrd]) {
      if (name === null) continue;
      const expected = found.files[name];
      if (expected !== undefined && (await this.#isSound(join(folder, name), expected, signal))) {
        continue;
      }
      refuse(folder, `is damaged: ${name} is not what was built; build it again`);
    }
    return imageOf(folder, found);
  }

  async #isSound(
    path: string,
    expected: { sha256: string; bytes: number },
    signal: AbortSignal,
  ): Promise<boolean> {
    const found = await stat(path, { bigint: true }).catch(() => null);
    if (found === null || found.size !== BigInt(expected.bytes)) return false;
    // Nothing can be written without a change of ctime, which nobody can set.
    const { dev, ino, size, mtimeNs, ctimeNs } = found;
    const state = [expected.sha256, dev, ino, size, mtimeNs, ctimeNs].join(" ");
    if (this.#sound.get(path) === state) return true;
    const hash = createHash("sha256");
    await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024, signal }), hash);
    if (hash.digest("hex") !== expected.sha256) return false;
    this.#sound.set(path, state);
    return true;
  }
}

type Manifest = z.infer<typeof manifest>;

async function readManifest(folder: string): Promise<Manifest> {
  const text = await readFile(join(folder, "image.json"), "utf8").catch(() => null);
  if (text === null) return refuse(folder, "is not here: build it");
  try {
    return manifest.parse(JSON.parse(text));
  } catch {
    return refuse(folder, "has a manifest that cannot be read: build it again");
  }
}

function imageOf(folder: string, { id, architecture, append, ...names }: Manifest): StoredImage {
  const path = (name: string): string => join(folder, name);
  const initrd = names.initrd === null ? null : path(names.initrd);
  return { id, architecture, append, initrd, kernel: path(names.kernel), root: path(names.root) };
}

function refuse(folder: string, why: string): never {
  throw new ProviderError("invalid", `the image ${quote(basename(folder))} ${why}`);
}
