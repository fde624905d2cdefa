import type { TrustClass } from "./trust.ts";

/*
 * Every field ending in `At` is milliseconds since the Unix epoch; `Ms`, `Seconds`, `Mb`, `Gb`
 * name their own unit.
 */

/** A job's states, in their only direction. */
export const jobStates = ["waiting", "started", "ended"] as const;
export type JobState = (typeof jobStates)[number];

/**
 * How a job ended. `lost`: its machine vanished under it. `refused`: no pool may ever take it.
 * `error`: Mayfly could not prepare it (a revision that does not exist).
 */
export const jobOutcomes = [
  "success",
  "failure",
  "cancelled",
  "skipped",
  "timed_out",
  "lost",
  "refused",
  "error",
] as const;
export type JobOutcome = (typeof jobOutcomes)[number];

/** A job as a forge shows it at one moment: by an event, a poll, or a submission. */
export interface JobSighting {
  readonly forge: string;
  readonly externalId: string;
  /** 1 for the first run of it. */
  readonly attempt: number;
  readonly state: JobState;
  readonly outcome: JobOutcome | null;
  readonly name: string;
  readonly repository: string;
  readonly labels: readonly string[];
  readonly trust: TrustClass;
  readonly url: string | null;
  /** The name of the runner that took it, where the forge says so. */
  readonly runner: string | null;
  readonly queuedAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  /** What to run, for native jobs only. */
  readonly work: NativeWork | null;
}

export interface Job extends JobSighting {
  readonly id: string;
  /** The labels in canonical order, as one key: jobs of one class are interchangeable as demand. */
  readonly labelClass: string;
  /** Null: no pool takes it, and `reason` says why. */
  readonly pool: string | null;
  readonly reason: string;
  readonly seenAt: number;
  readonly exitCode: number | null;
}

/** A native job: a command (or target) to run on a repository at a revision. */
export interface NativeWork {
  readonly source: NativeSource;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number;
  /** Paths or globs below the work folder, brought back when the command has ended. */
  readonly artifacts: readonly string[];
}

/** `tree`: an archive that Mayfly already holds, by digest. `git`: to be fetched at hand-over. */
export type NativeSource =
  | { readonly kind: "tree"; readonly sha256: string; readonly commit: string | null }
  | { readonly kind: "git"; readonly url: string; readonly revision: string }
  | { readonly kind: "none" };

/** The store's and the command line's name for one attempt of a forge's job. */
export function jobId(forge: string, externalId: string, attempt: number): string {
  return attempt === 1 ? `${forge}-${externalId}` : `${forge}-${externalId}.${attempt}`;
}
