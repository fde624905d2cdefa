import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { ProviderError } from "../../../domain/errors.ts";

/** The parts of an image that QEMU is given. */
export const parts = ["kernel", "initramfs", "base.img"] as const;
/** What EC2's firmware boots, in an image that was made for EC2 too. */
export const ec2Part = "ec2.efi";
export type Part = (typeof parts)[number] | typeof ec2Part;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const file = z.object({ sha256, bytes: z.number().int().nonnegative() });

const schema = z.object({
  version: z.literal(1),
  /** Over the files: the same image has the same, wherever and whenever it was made. */
  digest: sha256,
  architecture: z.enum(["x64", "arm64"]),
  variant: z.enum(["minimal", "runner"]),
  system: z.enum(["debian", "ubuntu"]),
  suite: z.string(),
  recipe: z.number().int(),
  kernelRelease: z.string(),
  packages: z.array(z.object({ name: z.string(), version: z.string(), bytes: z.number() })),
  files: z.object({
    kernel: file,
    initramfs: file,
    "base.img": file,
    [ec2Part]: file.exactOptional(),
  }),
});

export type Manifest = z.infer<typeof schema>;
export type Files = Manifest["files"];

/** An image on disk: its folder holds `parts` and the manifest. */
export interface StoredImage extends Manifest {
  readonly folder: string;
  readonly createdAt: number;
}

export const manifestName = "manifest.json";

/** The files that an image has. */
export function partsOf(files: Files): (readonly [Part, { sha256: string; bytes: number }])[] {
  const ec2 = files[ec2Part];
  const always = parts.map((part) => [part, files[part]] as const);
  return ec2 === undefined ? always : [...always, [ec2Part, ec2]];
}

export function digestOfFiles(files: Files): string {
  const lines = partsOf(files).map(([part, { sha256 }]) => `${part} ${sha256}\n`);
  return createHash("sha256").update(lines.join("")).digest("hex");
}

/** Reads the manifest of an image's folder. Throws `invalid` when it is none, or another's. */
export async function readImage(folder: string): Promise<StoredImage> {
  const path = join(folder, manifestName);
  const text = await readFile(path, "utf8").catch((error: Error) => {
    throw new ProviderError("invalid", `${path} cannot be read: ${error.message}`);
  });
  const { mtimeMs } = await stat(path);
  const parsed = schema.safeParse(parseJson(text));
  if (!parsed.success) throw new ProviderError("invalid", `${path} is not an image's manifest`);
  const { data } = parsed;
  if (data.digest !== digestOfFiles(data.files)) {
    throw new ProviderError("invalid", `${path} contradicts itself: its digest is another's`);
  }
  return { ...data, folder, createdAt: Math.round(mtimeMs) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** What the manifest says of a file. */
export async function measure(path: string): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return { sha256: hash.digest("hex"), bytes: (await stat(path)).size };
}

const mend = "remove it and build it again: mayfly image prune; mayfly image build";

/** Throws `invalid` unless every byte of the image is what the manifest says. Reads all of it. */
export async function verifyImage(image: StoredImage): Promise<void> {
  for (const [part, { sha256: wanted, bytes }] of partsOf(image.files)) {
    const path = join(image.folder, part);
    const found = await measure(path).catch((error: Error) => {
      throw new ProviderError("invalid", `${path} cannot be read: ${error.message}; ${mend}`);
    });
    if (found.sha256 === wanted && found.bytes === bytes) continue;
    throw new ProviderError("invalid", `${path} is damaged; ${mend}`);
  }
}
