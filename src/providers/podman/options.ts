import { z } from "zod";

const absolutePath = z
  .string()
  .regex(/^\/[^\0,:]*$/, 'an absolute path without ":" and ","')
  .refine((path) => !path.split("/").includes(".."), 'must be without ".."');

/** The keys of a `podman` provider in the configuration. Every one is optional. */
export const podmanOptions = z.strictObject({
  image: z
    .string()
    .optional()
    .describe("The image of pools that name none. Default: a small Debian that Mayfly makes."),
  pull: z
    .enum(["never", "missing", "newer", "always"])
    .default("never")
    .describe("Whether podman may fetch an image from a registry when a machine is made."),
  mounts: z
    .array(
      z.strictObject({
        from: absolutePath.describe("The path on this host."),
        to: absolutePath.describe("The path in the machine."),
      }),
    )
    .max(20)
    .default([])
    .describe("Paths of this host lent, read-only, to every machine."),
  containersConf: absolutePath
    .optional()
    .describe("A containers.conf to use instead of the one that Mayfly writes for itself."),
});
export type PodmanOptions = z.infer<typeof podmanOptions>;
