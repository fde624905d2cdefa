import { z } from "@hono/zod-openapi";
import { factKinds } from "../domain/fact.ts";
import { jobOutcomes, jobStates } from "../domain/job.ts";
import { runnerStates } from "../domain/runner.ts";
import { trustClasses } from "../domain/trust.ts";

/*
 * What the API says and takes, once: its documentation, the checks of what comes in, and the types
 * of the views are all made from here.
 */

const time = z.number().int().openapi({ description: "Milliseconds since the Unix epoch" });
/** Neither a store nor a command line takes a NUL. */
function text(least: number, most: number): z.ZodString {
  return z
    .string()
    .min(least)
    .max(most)
    .regex(/^[^\0]*$/, "it may hold no NUL");
}

const microUsd = z.number().int().openapi({ description: "Millionths of a US dollar" });

const SizeSchema = z
  .object({
    cpu: z.number(),
    memoryMb: z.number(),
    diskGb: z.number(),
    gpu: z.number(),
    architecture: z.enum(["x64", "arm64"]),
  })
  .openapi("Size");

/** A named schema or null: `nullable()` would lose the null beside the reference. */
function orNull<T extends z.ZodType>(schema: T): z.ZodUnion<[T, z.ZodNull]> {
  return z.union([schema, z.null()]);
}

const PriceSchema = z
  .object({
    microUsdPerHour: z.number(),
    quantumSeconds: z.number().openapi({ description: "Billed in steps of so many seconds" }),
    minimumSeconds: z.number().openapi({ description: "Never billed for less" }),
  })
  .openapi("Price");

const sourceKinds = {
  tree: z.object({
    kind: z.literal("tree"),
    sha256: z
      .string()
      .regex(/^[a-f0-9]{64}$/, "64 hexadecimal digits, as POST /v1/trees answered")
      .openapi({ description: "The digest that POST /v1/trees answered" }),
    commit: text(0, 100).nullable().default(null),
  }),
  git: z.object({
    kind: z.literal("git"),
    url: text(1, 2000),
    revision: text(1, 300),
  }),
  none: z.object({ kind: z.literal("none") }),
};
export const SourceSchema = z
  .discriminatedUnion("kind", [sourceKinds.tree, sourceKinds.git, sourceKinds.none])
  .openapi("Source");

export const SubmissionSchema = z
  .strictObject({
    name: text(1, 200).nullable().default(null),
    repository: text(0, 2000)
      .default("")
      .openapi({ description: "What people see: a URL, or a path's last part" }),
    source: SourceSchema.default({ kind: "none" }),
    command: z
      .array(text(0, 131_072))
      .max(10_000)
      .default([])
      .openapi({ description: "The program and its arguments; no shell reads them" }),
    target: text(1, 300)
      .nullable()
      .default(null)
      .openapi({ description: "Instead of a command: run by mk, make or npm" }),
    labels: z.array(text(1, 256)).max(100).default([]),
    pool: text(1, 100).nullable().default(null),
    trust: z.enum(trustClasses).default("trusted"),
    environment: z.record(text(1, 200), text(0, 131_072)).default({}),
    timeoutSeconds: z.number().int().min(1).max(604_800).nullable().default(null),
    artifacts: z.array(text(1, 1000)).max(100).default([]),
  })
  .openapi("Submission");

const WorkSchema = z
  .object({
    source: SourceSchema,
    command: z.array(z.string()),
    environmentNames: z
      .array(z.string())
      .openapi({ description: "The values are not shown: they may be secrets" }),
    timeoutSeconds: z.number(),
    artifacts: z.array(z.string()),
  })
  .openapi("Work");

export const JobSchema = z
  .object({
    id: z.string(),
    forge: z.string(),
    externalId: z.string(),
    attempt: z.number().int(),
    name: z.string(),
    repository: z.string(),
    labels: z.array(z.string()),
    trust: z.enum(trustClasses),
    pool: z.string().nullable(),
    size: orNull(SizeSchema),
    state: z.enum(jobStates),
    outcome: z.enum(jobOutcomes).nullable(),
    exitCode: z.number().int().nullable(),
    reason: z.string(),
    machine: z.string().nullable(),
    costMicroUsd: microUsd
      .nullable()
      .openapi({ description: "What its machine has cost so far; null: it had none of ours" }),
    url: z.string().nullable(),
    queuedAt: time,
    seenAt: time,
    startedAt: time.nullable(),
    endedAt: time.nullable(),
    work: orNull(WorkSchema).openapi({ description: "What to run, for native jobs only" }),
  })
  .openapi("Job");

export const RunnerSchema = z
  .object({
    name: z.string(),
    pool: z.string(),
    forge: z.string(),
    labels: z.array(z.string()),
    state: z.enum(runnerStates),
    reason: z.string(),
    job: z.string().nullable(),
    claimedAt: time,
    upAt: time.nullable(),
    startedAt: time.nullable(),
    endedAt: time.nullable(),
    goneAt: time.nullable(),
  })
  .openapi("Runner");

export const MachineSchema = z
  .object({
    name: z.string(),
    pool: z.string(),
    provider: z.string(),
    size: SizeSchema,
    price: PriceSchema,
    state: z.enum(runnerStates),
    reason: z.string(),
    job: z.string().nullable(),
    claimedAt: time,
    askedAt: time.nullable(),
    upAt: time.nullable(),
    startedAt: time.nullable(),
    endedAt: time.nullable(),
    goneAt: time.nullable(),
    tries: z.number().int().openapi({ description: "Failed calls in the present state" }),
    costMicroUsd: microUsd.openapi({ description: "So far; final once the machine is gone" }),
  })
  .openapi("Machine");

export const FactSchema = z
  .object({
    id: z.number().int(),
    at: time,
    subjectKind: z.enum(["job", "runner", "pool", "provider"]),
    subject: z.string(),
    kind: z.enum(factKinds),
    reason: z.string(),
  })
  .openapi("Fact");

export const LogFrameSchema = z
  .object({
    seq: z.number().int(),
    at: time,
    stream: z.enum(["stdout", "stderr", "mayfly"]),
    text: z.string().optional(),
    base64: z.string().optional().openapi({
      description: "Instead of `text`, where the bytes are not UTF-8 by themselves",
    }),
  })
  .openapi("LogFrame");

export const ArtifactSchema = z
  .object({ path: z.string(), size: z.number().int(), sha256: z.string(), at: time })
  .openapi("Artifact");

const CountsSchema = z
  .object({
    waiting: z.number().int(),
    booting: z.number().int(),
    idle: z.number().int(),
    busy: z.number().int(),
    ending: z.number().int(),
  })
  .openapi("Counts");

const BackOffSchema = z
  .object({ until: time, failures: z.number().int(), reason: z.string() })
  .openapi("BackOff");

const PlanActionSchema = z
  .object({
    kind: z.enum(["claim", "retire", "hold"]),
    labels: z
      .array(z.string())
      .nullable()
      .openapi({ description: "Null: every class of the pool" }),
    count: z.number().int(),
    until: time.nullable(),
    reason: z.string(),
  })
  .openapi("PlanAction");

export const PoolSchema = z
  .object({
    name: z.string(),
    forge: z.string(),
    provider: z.string(),
    labels: z.array(z.string()),
    size: SizeSchema,
    maximum: orNull(SizeSchema),
    accept: z.array(z.enum(trustClasses)),
    image: z.string().nullable(),
    network: z.boolean(),
    max: z.number().int(),
    min: z.number().int(),
    warm: z.number().int().openapi({ description: "As the schedule has it now" }),
    counts: CountsSchema,
    plan: z
      .object({ at: time, actions: z.array(PlanActionSchema) })
      .nullable()
      .openapi({ description: "The last plan made here; null: none yet, or another replica's" }),
  })
  .openapi("Pool");

export const ProviderSchema = z
  .object({
    name: z.string(),
    architectures: z.array(z.string()),
    maximum: SizeSchema,
    accepts: z.array(z.enum(trustClasses)),
    labels: z.array(z.string()),
    backOff: orNull(BackOffSchema),
    listedAt: time.nullable(),
    checks: z
      .array(
        z.object({
          name: z.string(),
          ok: z.boolean(),
          detail: z.string(),
          mend: z.string().nullable(),
        }),
      )
      .openapi({ description: "What it needs, as checked within the last minute" }),
  })
  .openapi("Provider");

export const WhySchema = z
  .object({
    id: z.string(),
    kind: z.enum(["job", "machine"]),
    state: z.string(),
    summary: z.string().openapi({ description: "The answer, in one sentence" }),
    because: z
      .array(z.object({ at: time.nullable(), text: z.string() }))
      .openapi({ description: "What led there, oldest first" }),
    advice: z.string().nullable().openapi({ description: "What to do, if anything" }),
  })
  .openapi("Why");

export const ReceivedSchema = z
  .object({
    jobs: z.array(z.string()).openapi({ description: "Ids of the jobs that are new or changed" }),
    repeated: z.boolean(),
    note: z.string().openapi({ description: "Why nothing came of it, when `jobs` is empty" }),
  })
  .openapi("Received");

export const TreeSchema = z.object({ sha256: z.string(), bytes: z.number().int() }).openapi("Tree");

export const CancelSchema = z
  .strictObject({ reason: text(1, 300).default("cancelled through the API") })
  .openapi("Cancel");

export const ProblemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z.string(),
    detail: z.string(),
    where: z.string().optional().openapi({ description: "The field or header at fault" }),
    hint: z.string().optional().openapi({ description: "What to do next" }),
    reference: z.string().optional().openapi({ description: "Found beside the error in the log" }),
  })
  .openapi("Problem");

export const BrokerWishSchema = z
  .strictObject({
    repository: text(3, 200).openapi({ description: "owner/name, as `github.repository`" }),
    run: z
      .union([z.int().min(1), text(1, 15).regex(/^[1-9][0-9]*$/, "a run's number")])
      .openapi({ description: "The run, as `github.run_id`" }),
    attempt: z
      .int()
      .min(1)
      .max(9999)
      .default(1)
      .openapi({ description: "As `github.run_attempt`" }),
    architectures: z
      .array(text(1, 20))
      .min(1)
      .max(20)
      .optional()
      .openapi({ description: "One machine each. Default: all that are lent here" }),
    label: text(1, 200)
      .optional()
      .openapi({ description: "Only where the labels here hold an id of the workflow's choice" }),
  })
  .openapi("BrokerWish");

export const OrderSchema = z
  .object({
    label: z.string(),
    repository: z.string(),
    run: z.string(),
    attempt: z.int(),
    url: z.string().nullable().openapi({ description: "The run's page" }),
    state: z
      .enum(["waiting", "ready", "over"])
      .openapi({ description: "ready: every runner is registered, or has its job" }),
    machines: z.array(
      z.object({
        architecture: z.string(),
        labels: z.array(z.string()).openapi({ description: "What `runs-on` has to say" }),
        job: z.string().openapi({ description: "The job that stands for it here" }),
        state: z.enum(["waiting", "ready", "busy", "over"]),
        reason: z.string(),
      }),
    ),
  })
  .openapi("Order");
