import { imageMend } from "../debian.ts";
import { Podman } from "./engine.ts";
import { baseImage, canMakeImage, hasImage } from "./image.ts";
import { findPowers } from "./powers.ts";

/**
 * Why podman would not do here without any configuration, with what to do; null when it would.
 * Throws as `findPowers` does.
 */
export async function fitness(folder: string, signal: AbortSignal): Promise<string | null> {
  if (process.platform !== "linux") return "podman's machines need Linux";
  const powers = await findPowers(folder, signal);
  const podman = await Podman.configured(folder, "containers.conf", powers);
  if ((await hasImage(podman, baseImage, signal)) || (await canMakeImage())) return null;
  return `podman works, but it has no image and mmdebstrap is not installed; ${imageMend}`;
}
