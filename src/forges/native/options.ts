import { isAbsolute } from "node:path";
import { z } from "zod";
import { secret } from "../../domain/secret.ts";
import { defaultSchemes, knownSchemes } from "./source-rules.ts";

/** What a configuration may say of a native forge. */
export const nativeOptions = z.strictObject({
  secret: secret
    .optional()
    .describe("Signs events sent to `/v1/forges/NAME/events`. Without it, none are taken."),
  schemes: z
    .array(z.enum(knownSchemes))
    .default(defaultSchemes as (typeof knownSchemes)[number][])
    .describe("How repositories may be fetched. Default: https, ssh and git."),
  paths: z
    .array(z.string().refine(isAbsolute, { message: "must be an absolute path" }))
    .max(100)
    .default([])
    .describe("Folders of this machine whose repositories may be named by their path."),
});

export type NativeOptions = z.output<typeof nativeOptions>;
