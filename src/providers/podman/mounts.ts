import { realpath } from "node:fs/promises";
import { ProviderError } from "../../domain/errors.ts";
import type { ProviderContext } from "../provider.ts";
import { guestFolder, programFolder } from "./arguments.ts";
import type { PodmanOptions } from "./options.ts";

/**
 * Throws `invalid` for a mount that is not there, that would show a machine any of our state, or
 * that would cover what the machine is given. Links are followed first.
 */
export async function refuseMounts(
  mounts: PodmanOptions["mounts"],
  context: ProviderContext,
): Promise<void> {
  const kept = [context.stateFolder, context.folder, context.guestFolder];
  for (const path of kept) {
    if (!/[,:\0]/.test(path)) continue;
    throw new ProviderError(
      "invalid",
      `podman cannot lend from ${path}: it has a "," or ":" in it`,
    );
  }
  const secret = await Promise.all(kept.map((path) => realpath(path).catch(() => path)));
  for (const { from, to } of mounts) {
    const real = await realpath(from).catch(() => null);
    if (real === null) throw new ProviderError("invalid", `mounts: ${from} is not there`);
    if (secret.some((path) => overlaps(path, real))) {
      throw new ProviderError("invalid", `mounts: ${from} would show machines Mayfly's own state`);
    }
    const taken = [programFolder, guestFolder, "/proc", "/sys", "/dev"];
    if (to === "/" || taken.some((path) => overlaps(path, to))) {
      throw new ProviderError("invalid", `mounts: ${to} is not free in a machine`);
    }
  }
}

/** True when one path is the other or lies in it. */
function overlaps(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => (path.endsWith("/") ? path : `${path}/`));
  return a!.startsWith(b!) || b!.startsWith(a!);
}
