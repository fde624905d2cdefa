import type { z } from "zod";
import { hostOptions, type HostOptions } from "./host/options.ts";
import { podmanOptions, type PodmanOptions } from "./podman/options.ts";
import type { Provider, ProviderContext } from "./provider.ts";

/** A kind of provider that a configuration may name. */
export interface ProviderKind {
  readonly summary: string;
  readonly options: z.ZodType;
  /** Its code is loaded only when it is used. `options` are what the schema above gave. */
  open(options: unknown, context: ProviderContext): Promise<Provider>;
}

/** Every kind there is: a new one is a folder and an entry here. */
export const providers: Readonly<Record<string, ProviderKind>> = {
  podman: {
    summary: "Containers on this host: a kernel shared, everything else apart.",
    options: podmanOptions,
    open: async (options, context) =>
      (await import("./podman/podman.ts")).open(options as PodmanOptions, context),
  },
  host: {
    summary: "Plain processes on this host, for trusted jobs only: nothing is kept apart.",
    options: hostOptions,
    open: async (options, context) =>
      (await import("./host/host.ts")).open(options as HostOptions, context),
  },
};
