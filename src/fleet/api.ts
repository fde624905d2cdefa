import type { Readable } from "node:stream";
import type { JobSighting, NativeSource } from "../domain/job.ts";
import type { PlanAction } from "../domain/planner.ts";
import type { Pool } from "../domain/pool.ts";
import type { ProgramFile } from "../domain/program.ts";
import type { TrustClass } from "../domain/trust.ts";
import type { ForgeRequest } from "../forges/forge.ts";
import type { Capabilities, Check } from "../providers/provider.ts";
import type { Artifact, LogFrame } from "../store/logs.ts";
import type { StoredJob } from "../store/questions.ts";
import type { Store } from "../store/store.ts";

/*
 * What the web and the command line may ask of a running fleet. Reading goes through `store.db` and
 * the questions of `store/questions.ts`; everything that changes something goes through here.
 */
export interface Fleet {
  readonly store: Store;
  readonly pools: readonly Pool[];
  readonly intake: Intake;
  readonly native: NativeDesk;
  readonly guests: GuestDesk;
  /** Takes leases, plans, reconciles and sweeps until `stop`. */
  start(): Promise<void>;
  /** Stops taking, ends its own waits, gives its leases back; leaves machines to the next start. */
  stop(): Promise<void>;
  /** The last plan of a pool held here: what it did, and why waiting jobs wait. */
  lastPlan(pool: string): { readonly at: number; readonly actions: readonly PlanAction[] } | null;
  providers(): readonly ProviderHealth[];
  forges(): readonly ForgeHealth[];
  /** True once every part started and the store answers. */
  ready(): Promise<{ readonly ok: boolean; readonly detail: string }>;
}

export interface ProviderHealth {
  readonly name: string;
  readonly capabilities: Capabilities;
  /** Nothing is asked of it before this moment; null: all is well. */
  readonly backOff: {
    readonly until: number;
    readonly failures: number;
    readonly reason: string;
  } | null;
  /** The last answered listing, ms; null: none yet. */
  readonly listedAt: number | null;
  check(signal: AbortSignal): Promise<readonly Check[]>;
}

export interface ForgeHealth {
  readonly name: string;
  readonly polledAt: number | null;
  readonly failure: string | null;
}

export interface Intake {
  /**
   * Verifies, places and stores an event; resolves once it is durable. Throws `not_found` (no such
   * forge), `unauthenticated`, `invalid`, `too_many`.
   */
  receive(forge: string, request: ForgeRequest): Promise<Received>;
  /** The same for what a poll or a submission shows. */
  record(sightings: readonly JobSighting[]): Promise<Received>;
}

export interface Received {
  /** Ids of the jobs that are new or changed. */
  readonly jobs: readonly string[];
  /** True when it told nothing new, as a delivery made twice does. */
  readonly repeated: boolean;
  readonly note: string;
}

/** A native submission as the API takes it. */
export interface Submission {
  readonly name: string | null;
  /** What people see: a URL, or a path's last part. */
  readonly repository: string;
  readonly source: NativeSource;
  readonly command: readonly string[];
  /** Instead of a command: run by mk, make or npm, whichever the repository has a file for. */
  readonly target: string | null;
  readonly labels: readonly string[];
  readonly pool: string | null;
  readonly trust: TrustClass;
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number | null;
  readonly artifacts: readonly string[];
}

export interface NativeDesk {
  /**
   * Checks, resolves the revision where the source is `git`, stores, and wakes the planner. Throws
   * `invalid` with the field at fault, or `not_found` for a revision that is not there.
   */
  submit(submission: Submission): Promise<StoredJob>;
  /**
   * Takes a tar archive (a repository's tree), checks every entry (nothing absolute, no `..`, no
   * link that leaves the tree, no devices, bounded size and count) and keeps it by its digest.
   */
  keepTree(archive: Readable): Promise<{ readonly sha256: string; readonly bytes: number }>;
  /** Ends a job that waits, or asks its machine to end it. Throws `not_found`, `conflict` (over). */
  cancel(job: string, reason: string): Promise<StoredJob>;
  /** The bytes of an artifact that `listArtifacts` shows. Throws `not_found`. */
  openArtifact(job: string, path: string): Promise<Readable>;
}

/** What the guests in machines may ask. Every call bears the claim or session token. */
export interface GuestDesk {
  /**
   * Exchanges the one-time claim for the session. The same nonce again gives the same answer, since
   * the first may have been lost; another nonce is refused. `proof`: what shows which machine asks,
   * where its provider judges that. Throws `unauthenticated`, `conflict`, `forbidden` (it is another
   * machine), `unavailable` (that cannot be told now).
   */
  redeem(
    claim: string,
    nonce: string,
    proof?: string,
  ): Promise<{ readonly session: string; readonly runner: string }>;
  /** Gives the machine a waiting job of its class, waiting up to `waitMs`; null: none came. */
  work(session: string, waitMs: number, signal: AbortSignal): Promise<GuestWork | null>;
  /** The tree to unpack, as a tar stream. */
  source(session: string): Promise<Readable>;
  /**
   * Appends output; `cancel` tells the guest to end its command. `started`: what it runs for its
   * forge has said that its job began.
   */
  append(
    session: string,
    frames: readonly LogFrame[],
    started?: boolean,
  ): Promise<{ readonly cancel: string | null }>;
  /** The same word on cancelling, as soon as there is one; null when `waitMs` pass without. */
  orders(
    session: string,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<{ readonly cancel: string | null }>;
  keepArtifact(session: string, path: string, body: Readable): Promise<Artifact>;
  /**
   * The command is over, and the machine no longer wanted. A native job ends with it; how a forge's
   * job ended only the forge says.
   */
  finish(session: string, end: GuestEnd): Promise<void>;
}

export interface GuestWork {
  readonly job: string;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number;
  readonly artifacts: readonly string[];
  readonly hasSource: boolean;
  /** Files that the command needs beside its work folder, for the machine's user only. */
  readonly files?: readonly ProgramFile[];
  /** What it prints when its job begins. */
  readonly startedText?: string;
  /** Where the artifacts are; the work folder when absent. */
  readonly artifactRoot?: string;
  /** It is one step of several: the machine asks again, and what this one leaves running stays. */
  readonly hasMore?: true;
}

export interface GuestEnd {
  /** 0..255, or null when the command did not run to an end. */
  readonly exitCode: number | null;
  /** `interrupted`: the machine's provider takes it back. */
  readonly how: "exited" | "timed_out" | "cancelled" | "interrupted" | "error";
  readonly detail: string;
}
