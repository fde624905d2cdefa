import { z } from "zod";
import { MayflyError } from "../../domain/errors.ts";
import { quote } from "../../domain/words.ts";
import type { ForgeEvents, ForgeRequest } from "../forge.ts";
import { stateOf, toSighting, workflowJob, workflowRun } from "./shapes.ts";
import type { RunTrust } from "./trust.ts";

const repository = z.object({ full_name: z.string() });
const jobEvent = z.object({ action: z.string(), workflow_job: workflowJob, repository });
const runEvent = z.object({ workflow_run: workflowRun, repository });
const actionEvent = z.object({ action: z.string() });

export interface EventParts {
  readonly forge: string;
  readonly trust: RunTrust;
  readonly now: () => number;
  /** Whether the forge is for this repository (`owner/name`). */
  readonly isOurs: (repository: string) => boolean;
  /** Whether another way tells of a job with these labels. */
  readonly isToldOtherwise: (labels: readonly string[]) => boolean;
  /** Something goes on in this repository: the next poll looks at it. */
  readonly stirred: (repository: string) => void;
  /** The App's installation was suspended, brought back or changed. */
  readonly installation: (action: string) => void;
}

/**
 * What an authentic event says. Nothing but a `workflow_job` tells of jobs; `workflow_run` tells
 * whose code they are, and costs nothing to learn it from. Throws `invalid`, and `unavailable` when
 * whose code it is had to be asked and there was no answer: then GitHub is to send it again.
 */
export async function readEvent(request: ForgeRequest, parts: EventParts): Promise<ForgeEvents> {
  const event = request.headers["x-github-event"] ?? "";
  const body = parseBody(request);
  switch (event) {
    case "workflow_job":
      return readJob(read(jobEvent, body), parts);
    case "workflow_run": {
      const { workflow_run: run, repository: of } = read(runEvent, body);
      if (!parts.isOurs(of.full_name)) return nothing(elsewhere(of.full_name));
      parts.trust.learn(run);
      parts.stirred(of.full_name);
      return nothing("its jobs come by events of their own");
    }
    case "ping":
      return nothing("GitHub reaches us, and the secret is right");
    case "installation":
    case "installation_repositories": {
      const { action } = read(actionEvent, body);
      parts.installation(action);
      return nothing(`the App's installation: ${quote(action)}`);
    }
    default:
      return nothing(`${quote(event)} tells of no jobs`);
  }
}

async function readJob(
  { action, workflow_job: job, repository: of }: z.output<typeof jobEvent>,
  parts: EventParts,
): Promise<ForgeEvents> {
  // By the action: a queued job's own status may still be that of the approval it waited for.
  const state = stateOf(action);
  if (state === null) return nothing(`${quote(action)}: it does not ask for a runner yet`);
  if (!parts.isOurs(of.full_name)) return nothing(elsewhere(of.full_name));
  if (parts.isToldOtherwise(job.labels)) return nothing("its scale set tells of it");
  parts.stirred(of.full_name);
  const known = { forge: parts.forge, repository: of.full_name, state, now: parts.now() };
  // Only a waiting job gets its pool by it.
  const trust =
    state === "waiting"
      ? await parts.trust.find(of.full_name, job.run_id).catch(askAgain)
      : parts.trust.known(job.run_id);
  return { sightings: [toSighting(job, { ...known, trust })], note: "" };
}

function parseBody({ headers, body }: ForgeRequest): unknown {
  const type = headers["content-type"] ?? "";
  if (!/^application\/json\b/i.test(type)) {
    throw new MayflyError("invalid", "the event is not JSON", {
      where: "Content-Type",
      hint: "Set the webhook's content type to application/json.",
    });
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body)) as unknown;
  } catch {
    throw new MayflyError("invalid", "the event is not JSON", { where: "body" });
  }
}

function read<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new MayflyError("invalid", issue?.message ?? "it is none of GitHub's events", {
    where: issue === undefined ? "body" : issue.path.join("."),
  });
}

function askAgain(error: unknown): never {
  const why = error instanceof Error ? error.message : String(error);
  throw new MayflyError("unavailable", why, {
    hint: "The next poll tells of the job, or the event sent again.",
  });
}

function nothing(note: string): ForgeEvents {
  return { sightings: [], note };
}

function elsewhere(fullName: string): string {
  return `${quote(fullName)} is not this forge's`;
}
