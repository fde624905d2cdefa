import { z } from "zod";
import { ProviderError } from "../../domain/errors.ts";

/*
 * What an exec provider's program says. Requests are `{id, method, params}`, answers are
 * `{id, result}` or `{id, error}`, one JSON object a line; docs/providers/exec.md tells all of it.
 */

export const protocolVersion = 1;
/** A line longer than this, in either direction, is an error. */
export const lineBytesMax = 32 * 1024 * 1024;

const architecture = z.enum(["x64", "arm64"]);
const amount = z.number().nonnegative();

const kinds = ["no_capacity", "quota", "throttled", "invalid", "gone", "unreachable"] as const;

export const replySchema = z.object({
  id: z.number(),
  result: z.unknown().optional(),
  // An error of a kind we do not know is an error all the same.
  error: z
    .object({
      kind: z.enum(kinds).catch("unreachable"),
      message: z.string().max(10_000).catch("it failed, and did not say why"),
      retryAfterMs: amount.optional().catch(undefined),
    })
    .optional()
    .catch({ kind: "unreachable", message: "it failed, in a way that is not understood" }),
});

export const helloSchema = z.object({
  protocol: z.number(),
  capabilities: z.object({
    architectures: z.array(architecture).min(1),
    maximum: z.object({ cpu: amount, memoryMb: amount, diskGb: amount, gpu: amount, architecture }),
    channel: z.enum(["socket", "url"]),
    accepts: z.array(z.enum(["trusted", "fork"])).min(1),
    labels: z.array(z.string().max(100)).max(50).default([]),
  }),
  /** What a machine costs: so much each, and for each of its processors and GB of memory. */
  price: z
    .object({
      microUsdPerHour: amount.default(0),
      microUsdPerCpuHour: amount.default(0),
      microUsdPerMemoryGbHour: amount.default(0),
      quantumSeconds: z.number().positive().default(1),
      minimumSeconds: amount.default(0),
    })
    .prefault({}),
});
export type Hello = z.infer<typeof helloSchema>;

export const machineSchema = z.object({
  name: z.string().max(200),
  state: z.enum(["booting", "running", "ended"]),
  handle: z.string().max(1_000),
  createdAt: z.number(),
  exitCode: z.int().nullable(),
});

export const machinesSchema = z.array(machineSchema);
export const destroyedSchema = z.enum(["gone", "ending"]);
export const checksSchema = z.array(
  z.object({
    name: z.string().max(100),
    ok: z.boolean(),
    detail: z.string().min(1).max(1_000),
    mend: z.string().max(1_000).nullable(),
  }),
);

/** The answer as this method's; throws `unreachable` for one that is not understood. */
export function understood<T>(method: string, schema: z.ZodType<T>, answer: unknown): T {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join(".") || "the whole";
  const why = `the answer to ${method} is not understood: ${where}: ${issue?.message}`;
  throw new ProviderError("unreachable", why);
}
