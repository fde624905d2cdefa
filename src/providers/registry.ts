import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { z } from "zod";
import { ProviderError } from "../domain/errors.ts";
import type { TrustClass } from "../domain/trust.ts";
import { ec2Options } from "./ec2/options.ts";
import { execOptions } from "./exec/options.ts";
import { hostOptions } from "./host/options.ts";
import { podmanOptions } from "./podman/options.ts";
import { qemuOptions } from "./qemu/options.ts";
import type { Check, Provider, ProviderContext } from "./provider.ts";
import { isFitForMachines, type unconfigured } from "./unconfigured.ts";

/** A kind of provider: what a configuration may say of it, and how to start it. */
export interface ProviderKind {
  readonly summary: string;
  readonly options: z.ZodType;
  /** What a pool accepts that does not say; a machine may be good for more, see `lends()`. */
  readonly accepts: readonly TrustClass[];
  /** `options` as the schema gave them. Throws `ProviderError` with what to do. */
  open(options: unknown, context: ProviderContext): Promise<Provider>;
  /** What it needs and whether that is there; starts nothing that stays. */
  check(options: unknown, context: ProviderContext, signal: AbortSignal): Promise<readonly Check[]>;
}

/** A kind's module, loaded when it is first used: starting the command must not wait for it. */
interface Loaded<O> {
  open(options: O, context: ProviderContext): Promise<Provider>;
  check?(options: O, context: ProviderContext, signal: AbortSignal): Promise<readonly Check[]>;
}

function kind<O>(
  parts: Pick<ProviderKind, "summary" | "accepts"> & { options: z.ZodType<O> },
  load: () => Promise<Loaded<O>>,
): ProviderKind {
  return {
    ...parts,
    open: async (options, context) => (await load()).open(options as O, context),
    check: async (options, context, signal) => {
      const loaded = await load();
      if (loaded.check !== undefined) return loaded.check(options as O, context, signal);
      const provider = await loaded.open(options as O, context);
      try {
        return await provider.check(signal);
      } finally {
        await provider.close();
      }
    },
  };
}

/** Every provider there is, by the name a configuration gives it. */
export const providers: Readonly<
  Record<"qemu" | "podman" | "host" | "ec2" | "exec", ProviderKind>
> &
  Readonly<Record<string, ProviderKind>> = {
  qemu: kind(
    {
      summary: "A machine for each job, with a kernel of its own, made by QEMU on this host.",
      options: qemuOptions,
      accepts: ["trusted"],
    },
    () => import("./qemu/qemu.ts"),
  ),
  podman: kind(
    {
      summary: "A container for each job, made by podman on this host.",
      options: podmanOptions,
      // Its machines share the host's kernel: whoever lets strangers in says so.
      accepts: ["trusted"],
    },
    () => import("./podman/podman.ts"),
  ),
  host: kind(
    {
      summary: "Plain processes on this host, without isolation: for trusted jobs only.",
      options: hostOptions,
      accepts: ["trusted"],
    },
    () => import("./host/host.ts"),
  ),
  ec2: kind(
    {
      summary: "An instance of Amazon EC2 for each job: spot where there is any, else on demand.",
      options: ec2Options,
      accepts: ["trusted"],
    },
    () => import("./ec2/ec2.ts"),
  ),
  exec: kind(
    {
      summary: "Any program that speaks lines of JSON on its standard input and output.",
      options: execOptions,
      accepts: ["trusted"],
    },
    () => import("./exec/exec.ts"),
  ),
};

export interface Detected {
  readonly kind: keyof typeof unconfigured;
  readonly ready: boolean;
  /** Why it would not do, or what to know of it; null: nothing. */
  readonly note: string | null;
}

/**
 * Tries the providers that need no configuration, best first: `qemu` if there is an image and KVM
 * works; `podman` if containers start and there is an image or the means to make one; and `host`,
 * which works anywhere. `folder` is where providers have their folders, below the state folder;
 * what is learnt of them stays there for their next start.
 */
export async function detect(folder: string, signal: AbortSignal): Promise<readonly Detected[]> {
  const isQemu = await isFitForMachines(folder, signal);
  const containers = join(folder, "podman");
  await mkdir(containers, { recursive: true, mode: 0o700 });
  const { fitness } = await import("./podman/fitness.ts");
  const fault = await fitness(containers, signal).catch((error: unknown) => {
    if (error instanceof ProviderError) return error.message;
    throw error;
  });
  const processes = "jobs run as plain processes, without isolation: trusted jobs only";
  return [
    // Whoever built no image need not be told each time that there is none.
    { kind: "qemu", ready: isQemu, note: null },
    { kind: "podman", ready: fault === null, note: fault },
    { kind: "host", ready: process.platform !== "win32", note: processes },
  ];
}
