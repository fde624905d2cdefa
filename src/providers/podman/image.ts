import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { lastWords } from "../child.ts";
import { bootstrap, hasTool, hostSuite, lock } from "../debian.ts";
import type { Podman } from "./engine.ts";

/** Goes up with every change of what is in the image, so that a new one is made. */
const recipe = "2";
export const baseImage = `localhost/mayfly-base:${recipe}`;
/** What a job may count on: a shell and Perl come with Debian's smallest set; mk is 9base's. */
const packages = ["git", "ca-certificates", "curl", "make", "9base"];

/** True when podman's store has the image. */
export async function hasImage(
  podman: Podman,
  image: string,
  signal: AbortSignal,
): Promise<boolean> {
  return (await podman.run(["image", "exists", image], signal)).code === 0;
}

/**
 * Whether the store's own list names the image: a look that takes a millisecond where podman takes
 * a hundred. False where the list is elsewhere or of another form; then podman knows.
 */
async function isListed(graphRoot: string): Promise<boolean> {
  const list = join(graphRoot, "overlay-images", "images.json");
  const text = await readFile(list, "utf8").catch(() => "");
  return text.includes(JSON.stringify(baseImage));
}

/**
 * Makes `localhost/mayfly-base` out of the host's own Debian or Ubuntu archive, unless podman has it
 * already: a minimal system and `packages`, no registry involved. One at a time on a store, however
 * many ask. `progress` gets a line a step. Throws `invalid` when mmdebstrap is missing or fails.
 */
export async function ensureImage(
  podman: Podman,
  { folder, graphRoot }: { folder: string; graphRoot: string },
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  if ((await isListed(graphRoot)) || (await hasImage(podman, baseImage, signal))) return;
  const unlock = await lock(join(graphRoot, "mayfly-image.lock"), signal);
  const scratch = join(folder, `image-${randomBytes(4).toString("hex")}`);
  try {
    if (await hasImage(podman, baseImage, signal)) return;
    // Of a manager that was killed while it made one.
    for (const entry of await readdir(folder)) {
      if (entry.startsWith("image-")) await rm(join(folder, entry), { recursive: true });
    }
    progress(`making ${baseImage} from Debian packages; this happens once`);
    await mkdir(scratch, { recursive: true, mode: 0o700 });
    const archive = join(scratch, "base.tar");
    const args = ["--variant=minbase", `--include=${packages.join(",")}`];
    const suite = await hostSuite();
    await bootstrap({ suite, args, target: archive, scratch }, progress, signal);
    progress("importing it into podman");
    await podman.run(["rmi", "--force", baseImage], signal);
    const labels = [`--change=LABEL mayfly.recipe=${recipe}`, '--change=CMD ["/bin/sh"]'];
    const imported = await podman.run(["import", ...labels, archive, baseImage], signal);
    if (imported.code !== 0) {
      throw new ProviderError("invalid", `podman import failed: ${lastWords(imported.stderr)}`);
    }
    progress(`${baseImage} is ready`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    unlock();
  }
}

/** True when the base image could be made here. */
export function canMakeImage(): Promise<boolean> {
  return hasTool("mmdebstrap");
}
