import { dirname, join } from "node:path";
import type { HostOptions } from "./host/options.ts";
import type { PodmanOptions } from "./podman/options.ts";
import type { Provider, ProviderContext } from "./provider.ts";
import type { QemuOptions } from "./qemu/options.ts";

/*
 * The providers that need no configuration, for a command that has none. It goes without their
 * schemas, which take longer to load than all else that it does before its machine is begun.
 */

/** What a run's providers are set to, which nobody says anything of. */
export const defaults: {
  readonly qemu: QemuOptions;
  readonly podman: PodmanOptions;
  readonly host: HostOptions;
} = {
  qemu: {
    accelerator: "auto",
    board: "auto",
    scratch: "dmcrypt",
    snapshot: true,
    outlive: true,
    reach: [],
    bootSeconds: 120,
    reserveMemoryMb: 512,
    cpuPressureMax: 90,
  },
  // Whoever names an image wants it to be there.
  podman: { pull: "missing", mounts: [] },
  host: {},
};

/** Each of them, as loaded when it is opened; the best first: a machine, a container, processes. */
export const unconfigured: Readonly<
  Record<keyof typeof defaults, (context: ProviderContext) => Promise<Provider>>
> = {
  qemu: async (context) => (await import("./qemu/qemu.ts")).open(defaults.qemu, context),
  podman: async (context) => (await import("./podman/podman.ts")).open(defaults.podman, context),
  host: async (context) => (await import("./host/host.ts")).open(defaults.host, context),
};

/** Whether `qemu` is to be taken where nobody says what to take. `folder` as for `detect`. */
export async function isFitForMachines(folder: string, signal: AbortSignal): Promise<boolean> {
  const { fitness } = await import("./qemu/fitness.ts");
  return (await fitness(join(folder, "qemu"), dirname(folder), signal)) === null;
}
