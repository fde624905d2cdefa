import type { ErrorCode, MayflyError } from "../domain/errors.ts";
import type { JobOutcome } from "../domain/job.ts";

/** What the command's exit statuses mean; by sysexits.h and timeout(1) where they have one. */
export const exit = {
  ok: 0,
  /** It was done, and the answer is no: `doctor` found that nothing can run. */
  failed: 1,
  usage: 64,
  data: 65,
  notFound: 66,
  unreachable: 69,
  internal: 70,
  temporary: 75,
  forbidden: 77,
  config: 78,
  timedOut: 124,
  interrupted: 130,
  brokenPipe: 141,
} as const;

const byCode: Readonly<Record<ErrorCode, number>> = {
  invalid: exit.usage,
  unauthenticated: exit.forbidden,
  forbidden: exit.forbidden,
  not_found: exit.notFound,
  conflict: exit.failed,
  too_large: exit.data,
  too_many: exit.temporary,
  unavailable: exit.unreachable,
};

export function exitOfError(error: MayflyError): number {
  return error.name === "ConfigError" ? exit.config : byCode[error.code];
}

const byOutcome: Readonly<Record<JobOutcome, number>> = {
  success: exit.ok,
  failure: exit.failed,
  skipped: exit.ok,
  cancelled: exit.interrupted,
  timed_out: exit.timedOut,
  lost: exit.temporary,
  refused: exit.forbidden,
  error: exit.data,
};

/**
 * The status of `submit --wait`: the command's own where it ran to an end, else one by how the job
 * ended.
 */
export function exitOfJob(job: { outcome: JobOutcome | null; exitCode: number | null }): number {
  const { outcome, exitCode } = job;
  if (outcome === "success" || outcome === "failure") return exitCode ?? byOutcome[outcome];
  return outcome === null ? exit.failed : byOutcome[outcome];
}
