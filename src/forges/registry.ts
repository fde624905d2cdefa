import type { z } from "zod";
import { nativeOptions } from "./native/options.ts";

/** A kind of forge that a configuration may name. */
export interface ForgeKind {
  readonly summary: string;
  readonly options: z.ZodType;
}

/** Every kind there is; opened in `cli/wire.ts`, which knows what each needs to live. */
export const forges: Readonly<Record<string, ForgeKind>> = {
  native: {
    summary: "Repositories without a forge: jobs are submitted, pushed or sent as signed events.",
    options: nativeOptions,
  },
};
