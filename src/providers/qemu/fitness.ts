import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { hostArchitecture } from "../local.ts";
import { findAcceleration } from "./accelerator.ts";
import { imageFor } from "./guests.ts";
import { qemuOptions } from "./options.ts";

/**
 * Why QEMU is not what machines are made by unless somebody asks for it; null when it is: somebody
 * has built an image, and KVM works. `folder` is the provider's own, below `stateFolder`.
 */
export async function fitness(
  folder: string,
  stateFolder: string,
  signal: AbortSignal,
): Promise<string | null> {
  const architecture = hostArchitecture();
  if (process.platform !== "linux" || architecture === null) return "machines of QEMU need Linux";
  try {
    const options = qemuOptions.parse({});
    const image = await imageFor(null, architecture, options, { stateFolder });
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const kernel = { architecture, kernel: join(image.folder, "kernel") };
    const { why } = await findAcceleration(options.accelerator, kernel, folder, signal);
    return why === null ? null : `machines would be emulated: ${why}`;
  } catch (error) {
    if (error instanceof ProviderError) return error.message;
    throw error;
  }
}
