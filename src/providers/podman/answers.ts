import { z } from "zod";

/*
 * What podman answers in JSON. A file of its own, loaded when there is an answer to read: a run that
 * makes one machine reads none, and the schemas take longer to load than it has until then.
 */

/** A container of `podman ps --format json`; the labels are ours. */
const rowSchema = z.object({
  Id: z.string().regex(/^[0-9a-f]{64}$/),
  Names: z.array(z.string()),
  State: z.string(),
  ExitCode: z.number(),
  Created: z.number(),
  Labels: z.record(z.string(), z.string()).nullable(),
  Size: z.object({ rwSize: z.number() }).nullish(),
});
export type Row = z.infer<typeof rowSchema>;

const infoSchema = z.object({
  host: z.object({ security: z.object({ rootless: z.boolean() }) }),
  store: z.object({ graphDriverName: z.string(), graphRoot: z.string() }),
});

/** The list of `podman ps`; null: it is none. */
export function readRows(text: string): Row[] | null {
  return read(z.array(rowSchema), text);
}

/** What of `podman info` matters here; null: it says something else. */
export function readInfo(text: string): z.infer<typeof infoSchema> | null {
  return read(infoSchema, text);
}

function read<T>(schema: z.ZodType<T>, text: string): T | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
