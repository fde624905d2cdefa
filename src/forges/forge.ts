import type { JobSighting } from "../domain/job.ts";
import type { Program, ProgramFile } from "../domain/program.ts";
import type { Runner } from "../domain/runner.ts";
import type { TrustClass } from "../domain/trust.ts";

export interface ForgeRequest {
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The raw bytes: signatures are over these. */
  readonly body: Uint8Array;
  /** Where it came from: an IP address, or null when that is not known. */
  readonly address?: string | null;
}

export interface ForgeEvents {
  readonly sightings: readonly JobSighting[];
  /** Why nothing came of it, when `sightings` is empty. */
  readonly note: string;
}

/** What tells which of a forge's jobs is meant. */
export type KnownJob = Pick<JobSighting, "externalId" | "attempt" | "repository">;

export interface Registration {
  /** The runner's name. */
  readonly name: string;
  readonly id: string;
  readonly online: boolean;
}

/** What `mint` is told of the place its program will run in. */
export interface MintContext {
  /** How the guest reaches this manager: `unix:{guest}` or `https://…`. */
  readonly managerUrl: string;
  readonly claimToken: string;
  readonly jobDeadlineSeconds: number;
  readonly idleSeconds: number;
}

/** What `handOver` is told of the pool that the runner is of. */
export interface HandOverContext {
  /** Whose code the pool accepts: what the runner refuses of what its forge gives it. */
  readonly accept: readonly TrustClass[];
  readonly jobDeadlineSeconds: number;
}

/** A run: the jobs that one event set off, of one workflow. */
export interface ForgeRun {
  /** Its number at the forge, which its jobs know as `github.run_id`. */
  readonly id: string;
  readonly attempt: number;
  readonly isOver: boolean;
  /** The file name of its workflow, `build.yml`; null: the forge does not say. */
  readonly workflow: string | null;
  readonly url: string | null;
}

export interface RunWithJobs extends ForgeRun {
  readonly trust: TrustClass;
  /** Those of its latest attempt that a runner may take, has or had, however they stand. */
  readonly jobs: readonly JobSighting[];
}

/** Looks up runs by their repository (`owner/name`). */
export interface RunLookUp {
  /** Runs that are not over, newest first, as far as a few pages show them. */
  open(repository: string, signal: AbortSignal): Promise<readonly ForgeRun[]>;
  /** Null: the forge knows no such run in this repository. */
  find(repository: string, run: string, signal: AbortSignal): Promise<RunWithJobs | null>;
}

/** What a machine runs for its forge: the forge's own runner, registered for one job. */
export interface RunnerOrders {
  /** Written where only the machine's user reads them, in a folder that `{files}` stands for. */
  readonly files: readonly ProgramFile[];
  /**
   * Run as given, never through a shell, in a fresh work folder. `{files}` and, for that folder,
   * `{work}` hold here and in the environment's values.
   */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** What the program prints, on stdout or stderr, when its job begins: part of a line. */
  readonly startedText: string;
}

/** What a forge says of the wish to run a job again. */
export type RerunAnswer =
  /** It runs again, or will. */
  | { readonly kind: "asked" }
  /** Not yet, as while other jobs of its run are not over. */
  | { readonly kind: "later"; readonly reason: string }
  | { readonly kind: "refused"; readonly reason: string };

/** Where jobs come from. Failures are `MayflyError`s. */
export interface Forge {
  readonly name: string;
  /** The forge's own rule: may a runner that offers `offered` take a job that asks for `asked`? */
  match(asked: readonly string[], offered: readonly string[]): boolean;
  /**
   * Authenticates and parses an event. Throws `unauthenticated` or `invalid`. The same event again
   * gives the same sightings, so that a repetition changes nothing. A forge whose events do not say
   * all that decides a job's pool may ask its server, within seconds; `unavailable` when it cannot,
   * and then the sender tries again, or the next poll tells of the job.
   */
  verify(request: ForgeRequest): ForgeEvents | Promise<ForgeEvents>;
  /** What waits and runs now, by asking. The truth; events are hints. */
  poll(signal: AbortSignal): Promise<readonly JobSighting[]>;
  /**
   * Hears of jobs on a line that it keeps open, until `signal` aborts. `tell` resolves once they are
   * stored, and only then is the forge told that they have arrived. Called by whoever holds the
   * forge's lease, and again some time after it threw. Absent: there is no such line.
   */
  listen?(
    tell: (sightings: readonly JobSighting[]) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * How one job stands that the polls no longer show, or null when the forge knows no such job.
   * Absent: there is nobody to ask, as where jobs are only ever submitted to us.
   */
  find?(job: KnownJob, signal: AbortSignal): Promise<JobSighting | null>;
  /**
   * What its machine starts with: Mayfly's guest. Deterministic in its name, so that it may be
   * repeated.
   */
  mint(runner: Runner, context: MintContext): Promise<Program>;
  /**
   * Registers a runner for one job, under the runner's name, and says what its machine runs. Asked
   * for when the machine is up and not before, since what it gives is a credential with a short
   * life. Asked again (an answer may be lost), it registers anew: the earlier one is worth nothing
   * then. Null: it registers a runner for a certain job, and none waits now; the guest asks again.
   * Absent: its jobs are given to guests themselves, as native ones are.
   */
  handOver?(
    runner: Runner,
    context: HandOverContext,
    signal: AbortSignal,
  ): Promise<RunnerOrders | null>;
  /**
   * Has a job run again whose machine was taken back under it. Never when a person cancelled it, nor
   * when it has been run again already: asked twice, since an answer may be lost, it finds that out
   * and says `asked`. `others`: further jobs to be run again, for forges that do so for a whole run.
   * Absent: nobody there can be asked.
   */
  rerun?(job: KnownJob, others: readonly KnownJob[], signal: AbortSignal): Promise<RerunAnswer>;
  /** Absent: there are no runs, or nobody to ask about them. */
  readonly runs?: RunLookUp;
  registrations(signal: AbortSignal): Promise<readonly Registration[]>;
  /** Removes the registration. `busy`: it has a job; leave its machine alone. */
  remove(name: string, signal: AbortSignal): Promise<"gone" | "busy">;
}
