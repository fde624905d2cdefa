import { z } from "zod";
import { MayflyError } from "../../domain/errors.ts";
import type { JobSighting, NativeSource, NativeWork } from "../../domain/job.ts";
import { checkWork, targetCommand, timeoutSecondsMax } from "../../domain/native-work.ts";
import { trustClasses } from "../../domain/trust.ts";
import { clip } from "../../domain/words.ts";
import { checkRevision } from "./source-rules.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true });
/** Submissions in one event. */
const jobsMax = 100;

const submission = z.strictObject({
  name: z.string().min(1).max(200).optional(),
  /** What people see; else the source's address. */
  repository: z.string().max(2000).optional(),
  source: z
    .discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("git"), url: z.string(), revision: z.string() }),
      z.strictObject({
        kind: z.literal("tree"),
        sha256: z.string(),
        commit: z.string().nullable().default(null),
      }),
      z.strictObject({ kind: z.literal("none") }),
    ])
    .default({ kind: "none" }),
  command: z.array(z.string()).max(10_000).optional(),
  target: z.string().optional(),
  labels: z.array(z.string().min(1).max(256)).max(100).default([]),
  pool: z.string().min(1).max(100).optional(),
  /** A sender who does not say where the code is from cannot tell. */
  trust: z.enum(trustClasses).default("fork"),
  environment: z.record(z.string(), z.string()).default({}),
  timeoutSeconds: z.int().min(1).max(timeoutSecondsMax).optional(),
  artifacts: z.array(z.string()).max(100).default([]),
});

const event = z.union([z.strictObject({ jobs: z.array(submission).max(jobsMax) }), submission]);

export type EventSubmission = z.output<typeof submission>;

/** The submissions of an event's body: one, or several under `jobs`. Throws `invalid`. */
export function parseEvent(body: Uint8Array): readonly EventSubmission[] {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(body));
  } catch (error) {
    const detail = error instanceof Error ? error.message : "unreadable";
    throw new MayflyError("invalid", `the body is no JSON: ${clip(detail, 200)}`, {
      where: "body",
    });
  }
  const isSeveral = typeof value === "object" && value !== null && "jobs" in value;
  const parsed = (isSeveral ? event.options[0] : submission).safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new MayflyError("invalid", issue?.message ?? "it is no submission", {
      where: fieldName(issue?.path ?? []),
    });
  }
  return "jobs" in parsed.data ? parsed.data.jobs : [parsed.data];
}

/**
 * A submission as a job that waits. `externalId` names it at its forge. Throws `invalid`, naming the
 * field, for what could never run.
 */
export function toSighting(
  { name, repository, source, command, target, labels, pool, ...rest }: EventSubmission,
  job: { readonly forge: string; readonly externalId: string; readonly at: number },
): JobSighting {
  if (command !== undefined && target !== undefined) {
    throw new MayflyError("invalid", "give a command or a target, not both", { where: "target" });
  }
  const work: NativeWork = {
    source,
    command: command ?? targetCommand(target ?? "test"),
    environment: rest.environment,
    // The pool's own limit holds in any case.
    timeoutSeconds: rest.timeoutSeconds ?? timeoutSecondsMax,
    artifacts: rest.artifacts,
  };
  checkWork(work);
  if (source.kind === "git") checkRevision(source.revision);
  const words = command === undefined ? (target ?? "test") : command.join(" ");
  return {
    forge: job.forge,
    externalId: job.externalId,
    attempt: 1,
    state: "waiting",
    outcome: null,
    name: oneLine(name ?? words, 200),
    repository: oneLine(repository ?? addressOf(source), 300),
    // A pool offers its own name as a label.
    labels: pool === undefined ? labels : [...new Set([...labels, pool])],
    trust: rest.trust,
    url: null,
    runner: null,
    queuedAt: job.at,
    startedAt: null,
    endedAt: null,
    work,
  };
}

function addressOf(source: NativeSource): string {
  return source.kind === "git" ? source.url : "";
}

function oneLine(text: string, lengthMax: number): string {
  return clip(text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " "), lengthMax);
}

/** `jobs[1].labels[0]`, as a person would write it. */
function fieldName(path: readonly PropertyKey[]): string {
  const name = path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("");
  return name === "" ? "body" : name.replace(/^\./, "");
}
