import { z } from "zod";
import type { JobOutcome } from "../../../domain/job.ts";

/*
 * What is read of the scale-set service's answers. Names and types are those of types.go in
 * github.com/actions/scaleset; the service is documented nowhere else.
 */

export const connection = z.object({ url: z.url(), token: z.string().min(1) });

const scaleSet = z.object({ id: z.int().min(1), name: z.string() });
export type ScaleSet = z.output<typeof scaleSet>;
export const scaleSets = z.object({ value: z.array(scaleSet) });
export const oneScaleSet = scaleSet;

export const runnerGroups = z.object({
  value: z.array(z.object({ id: z.int().min(1), name: z.string() })),
});

const statistics = z.object({
  totalAvailableJobs: z.int().default(0),
  totalAssignedJobs: z.int().default(0),
  totalRunningJobs: z.int().default(0),
});

export const session = z.object({
  sessionId: z.string().min(1),
  messageQueueUrl: z.url(),
  messageQueueAccessToken: z.string().min(1),
  statistics: statistics.nullish(),
});
export type Session = z.output<typeof session>;

export const message = z.object({
  messageId: z.int(),
  messageType: z.string(),
  /** A JSON text of its own, of a list. */
  body: z.string().default(""),
  statistics: statistics.nullish(),
});
export type Message = z.output<typeof message>;

/** Go writes a time that is none as the year 1, with a zone or without. */
const time = z
  .string()
  .nullish()
  .transform((text) => {
    const at = Date.parse(text ?? "");
    return at > 0 ? at : null;
  });

const jobMessage = z.object({
  messageType: z.string(),
  runnerRequestId: z.int().default(0),
  repositoryName: z.string().default(""),
  ownerName: z.string().default(""),
  jobId: z.string().default(""),
  jobDisplayName: z.string().default(""),
  workflowRunId: z.int().default(0),
  eventName: z.string().default(""),
  requestLabels: z
    .array(z.string())
    .nullish()
    .transform((labels) => labels ?? []),
  queueTime: time,
  runnerAssignTime: time,
  finishTime: time,
  result: z.string().nullish(),
  runnerName: z.string().nullish(),
});
export type JobMessage = z.output<typeof jobMessage>;

/** A message holds jobs of several kinds; one that is new to us does not spoil the others. */
export function readJobs(body: string): readonly JobMessage[] {
  if (body === "") return [];
  const list = z.array(z.unknown()).parse(JSON.parse(body));
  return list.flatMap((item) => {
    const read = jobMessage.safeParse(item);
    return read.success ? [read.data] : [];
  });
}

export const acquired = z.object({ value: z.array(z.int()).nullish() });

export const jitConfig = z.object({ encodedJITConfig: z.string().min(1) });

export const serviceError = z.object({
  typeName: z.string().default(""),
  message: z.string().default(""),
});

const outcomes: Readonly<Record<string, JobOutcome>> = {
  succeeded: "success",
  succeededwithissues: "success",
  success: "success",
  failed: "failure",
  failure: "failure",
  canceled: "cancelled",
  cancelled: "cancelled",
  skipped: "skipped",
  abandoned: "lost",
};

export function outcomeOf(result: string | null | undefined): JobOutcome {
  return outcomes[(result ?? "").toLowerCase()] ?? "failure";
}
