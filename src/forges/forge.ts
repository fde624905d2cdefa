import type { JobSighting } from "../domain/job.ts";
import type { Program } from "../domain/program.ts";
import type { Runner } from "../domain/runner.ts";

export interface ForgeRequest {
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The raw bytes: signatures are over these. */
  readonly body: Uint8Array;
}

export interface ForgeEvents {
  readonly sightings: readonly JobSighting[];
  /** Why nothing came of it, when `sightings` is empty. */
  readonly note: string;
}

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

/** Where jobs come from. Failures are `MayflyError`s. */
export interface Forge {
  readonly name: string;
  /** The forge's own rule: may a runner that offers `offered` take a job that asks for `asked`? */
  match(asked: readonly string[], offered: readonly string[]): boolean;
  /**
   * Authenticates and parses an event. Throws `unauthenticated` or `invalid`. The same event again
   * gives the same sightings, so that a repetition changes nothing.
   */
  verify(request: ForgeRequest): ForgeEvents;
  /** What waits and runs now, by asking. The truth; events are hints. */
  poll(signal: AbortSignal): Promise<readonly JobSighting[]>;
  /**
   * How one job stands that the polls no longer show, or null when the forge knows no such job.
   * Absent: there is nobody to ask, as where jobs are only ever submitted to us.
   */
  find?(externalId: string, attempt: number, signal: AbortSignal): Promise<JobSighting | null>;
  /** The program of a runner for one job. Deterministic in its name, so that it may be repeated. */
  mint(runner: Runner, context: MintContext): Promise<Program>;
  registrations(signal: AbortSignal): Promise<readonly Registration[]>;
  /** Removes the registration. `busy`: it has a job; leave its machine alone. */
  remove(name: string, signal: AbortSignal): Promise<"gone" | "busy">;
}
