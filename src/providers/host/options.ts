import { z } from "zod";

/** The host provider takes no options: a plain process has no size, image or network of its own. */
export const hostOptions = z.strictObject({});
export type HostOptions = z.infer<typeof hostOptions>;
