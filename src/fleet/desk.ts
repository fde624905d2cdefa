import type { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";
import type { JobOutcome, NativeSource, NativeWork } from "../domain/job.ts";
import { isInnerPath } from "../domain/native-work.ts";
import type { Runner } from "../domain/runner.ts";
import { addFacts } from "../store/facts.ts";
import {
  artifactTotals,
  cancelTopic,
  endJob,
  findCancellation,
  findGuest,
  logBytes,
  redeemClaim,
  setSource,
} from "../store/guest.ts";
import { addArtifact, appendLog, type Artifact, type LogFrame } from "../store/logs.ts";
import { findJob, type StoredJob } from "../store/questions.ts";
import { endRunner } from "../store/runners.ts";
import type { Store } from "../store/store.ts";
import type { GuestDesk, GuestEnd, GuestWork } from "./api.ts";
import type { Clock } from "./clock.ts";
import { nonceDigest, runnerOf, sameToken, type GuestTokens } from "./desk-tokens.ts";
import { Topics } from "./desk-topics.ts";
import { WorkLine } from "./desk-work.ts";
import type { ContentFolder, Sources } from "./native-files.ts";

/** Output kept of one job; what comes after is taken and dropped. */
const logBytesMax = 256 * 1024 * 1024;
export const artifactBytesMax = 1024 * 1024 * 1024;
const artifactsBytesMax = 4 * artifactBytesMax;
const artifactsMax = 1000;
/** A frame costs a row, however few bytes it holds. */
const frameCostBytes = 64;
/** A source that cannot be fetched for so often in a row will not be. */
const fetchTriesMax = 3;
const countsKept = 10_000;

export interface DeskParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly tokens: GuestTokens;
  readonly sources: Sources;
  readonly artifacts: ContentFolder;
}

/** The manager's side of what guests ask, on any replica: all that lasts is in the store. */
export class Desk implements GuestDesk {
  readonly #parts: DeskParts;
  readonly #topics: Topics;
  readonly #line: WorkLine;
  /** Bytes of output by job, for jobs heard of since we started. */
  readonly #logged = new Map<string, number>();
  readonly #fetching = new Map<string, Promise<string>>();
  readonly #fetchFailures = new Map<string, number>();

  constructor(parts: DeskParts) {
    this.#parts = parts;
    this.#topics = new Topics(parts.store);
    this.#line = new WorkLine(parts.store, parts.clock, this.#topics);
  }

  async redeem(claim: string, nonce: string): Promise<{ session: string; runner: string }> {
    const { store, tokens } = this.#parts;
    const runner = runnerOf(claim);
    if (runner === null || !sameToken(claim, tokens.claim(runner))) throw unauthenticated("claim");
    if (!/^[0-9a-f]{32,128}$/.test(nonce)) {
      throw new MayflyError("invalid", "it must be 32 to 128 hexadecimal digits", {
        where: "nonce",
      });
    }
    const digest = nonceDigest(nonce);
    const redeemed = await store.write((tx) => redeemClaim(tx, runner, digest));
    if (redeemed === null) throw unauthenticated("claim");
    if (redeemed !== digest) {
      throw new MayflyError("conflict", "this claim was already redeemed", {
        hint: "A machine lives once; a new one gets a claim of its own.",
      });
    }
    return { session: tokens.session(runner, digest), runner };
  }

  async work(session: string, waitMs: number, signal: AbortSignal): Promise<GuestWork | null> {
    const runner = await this.#runner(session);
    const result = await this.#line.next(runner, waitMs, signal);
    if (result.kind === "over") throw new MayflyError("conflict", result.reason);
    return result.kind === "none" ? null : guestWork(result.job);
  }

  async source(session: string): Promise<Readable> {
    const job = await this.#startedJob(session);
    const { source } = job.work;
    if (source.kind === "none") throw new MayflyError("not_found", "the job has no source");
    const sha256 = source.kind === "tree" ? source.sha256 : await this.#fetch(job, source);
    return this.#parts.sources.open(sha256);
  }

  async append(session: string, frames: readonly LogFrame[]): Promise<{ cancel: string | null }> {
    const runner = await this.#runner(session);
    const cancel = await this.#order(runner);
    if (frames.length === 0 || runner.job === null) return { cancel };
    const job = runner.job;
    const kept = await this.#withinLimit(job, frames);
    if (kept.length > 0) await this.#parts.store.write((tx) => appendLog(tx, job, kept));
    return { cancel };
  }

  async orders(
    session: string,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<{ cancel: string | null }> {
    const runner = await this.#runner(session);
    const news = this.#news(runner, waitMs, signal);
    try {
      for (;;) {
        const heard = news.next();
        const cancel = await this.#order(
          (await findGuest(this.#parts.store.db, runner.name))?.runner ?? runner,
        );
        if (cancel !== null || !(await heard)) return { cancel };
      }
    } finally {
      news.stop();
    }
  }

  async keepArtifact(session: string, path: string, body: Readable): Promise<Artifact> {
    const { store, artifacts } = this.#parts;
    const job = await this.#startedJob(session);
    if (!isInnerPath(path)) {
      throw new MayflyError("invalid", "it is no path below the work folder", { where: "path" });
    }
    const before = await artifactTotals(store.db, job.id);
    if (before.count >= artifactsMax) {
      throw new MayflyError("too_many", `a job keeps at most ${artifactsMax} artifacts`);
    }
    const room = Math.min(artifactBytesMax, artifactsBytesMax - before.bytes);
    const { sha256, bytes } = await artifacts.keep(body, Math.max(0, room));
    return store.write(async (tx) => {
      const artifact = { path, size: bytes, sha256, at: tx.now };
      await addArtifact(tx, job.id, artifact);
      return artifact;
    });
  }

  async finish(session: string, end: GuestEnd): Promise<void> {
    const runner = await this.#runner(session);
    if (runner.job === null) throw new MayflyError("conflict", "this machine has no job");
    const id = runner.job;
    await this.#parts.store.write(async (tx) => {
      const job = await findJob(tx.db, id);
      if (job === null) return;
      await endJob(tx, job, { ...outcomeOf(end), exitCode: end.exitCode });
      await endRunner(tx, runner.name, `its job ${id} is over: ${outcomeOf(end).reason}`);
    });
    for (const known of [this.#logged, this.#fetching, this.#fetchFailures]) known.delete(id);
  }

  close(): void {
    this.#topics.close();
  }

  /** The runner whose guest holds this session. */
  async #runner(session: string): Promise<Runner> {
    const { store, tokens } = this.#parts;
    const name = runnerOf(session);
    const guest = name === null ? null : await findGuest(store.db, name);
    if (name === null || guest === null || guest.redeemed === null)
      throw unauthenticated("session");
    if (!sameToken(session, tokens.session(name, guest.redeemed))) throw unauthenticated("session");
    return guest.runner;
  }

  async #startedJob(session: string): Promise<StoredJob & { readonly work: NativeWork }> {
    const { job: id } = await this.#runner(session);
    const job = id === null ? null : await findJob(this.#parts.store.db, id);
    if (job?.state === "started" && job.work !== null) return { ...job, work: job.work };
    throw new MayflyError("conflict", "this machine has no running job");
  }

  /** Why this machine's command should end, or null. */
  async #order(runner: Runner): Promise<string | null> {
    const { db } = this.#parts.store;
    if (runner.state === "ended" || runner.state === "gone") return runner.reason;
    if (runner.job === null) return null;
    const job = await findJob(db, runner.job);
    if (job?.state === "ended") return job.reason;
    return findCancellation(db, runner.job);
  }

  /** What may change an order, until `waitMs` have passed: then `next` resolves to false. */
  #news(
    runner: Runner,
    waitMs: number,
    signal: AbortSignal,
  ): { next: () => Promise<boolean>; stop: () => void } {
    let hear: (more: boolean) => void = () => {};
    let isOver = signal.aborted;
    const end = (): void => {
      isOver = true;
      hear(false);
    };
    const topics = [`runner/${runner.name}`, cancelTopic(runner.job ?? "")];
    const offs = topics.map((topic) => this.#topics.on(topic, () => hear(true)));
    const cancelTimer = this.#parts.clock.after(waitMs, end);
    signal.addEventListener("abort", end, { once: true });
    return {
      next: () =>
        new Promise((resolve) => {
          hear = resolve;
          if (isOver) resolve(false);
        }),
      stop: () => {
        for (const off of offs) off();
        cancelTimer();
        signal.removeEventListener("abort", end);
      },
    };
  }

  /** The frames that still fit into a job's log. What Mayfly itself says always does. */
  async #withinLimit(job: string, frames: readonly LogFrame[]): Promise<readonly LogFrame[]> {
    const { store } = this.#parts;
    const before = this.#logged.get(job) ?? (await logBytes(store.db, job));
    const size = frames.reduce((sum, { bytes }) => sum + bytes.length + frameCostBytes, 0);
    remember(this.#logged, job, before + size);
    if (before + size <= logBytesMax) return frames;
    if (before <= logBytesMax) {
      const reason = `its output beyond ${logBytesMax / 2 ** 20} MiB is not kept`;
      await store.write((tx) =>
        addFacts(tx, [{ subjectKind: "job", subject: job, kind: "noted", reason }]),
      );
    }
    // Even that has an end: who says more than this is no guest of ours.
    return before > 2 * logBytesMax ? [] : frames.filter(({ stream }) => stream === "mayfly");
  }

  /** Fetches a job's source once, whoever asks and however often. Resolves to its digest. */
  async #fetch(
    job: StoredJob & { readonly work: NativeWork },
    source: Extract<NativeSource, { kind: "git" }>,
  ): Promise<string> {
    let fetching = this.#fetching.get(job.id);
    if (fetching === undefined) {
      fetching = this.#fetchTree(job, source).finally(() => this.#fetching.delete(job.id));
      this.#fetching.set(job.id, fetching);
    }
    return fetching;
  }

  async #fetchTree(
    job: StoredJob & { readonly work: NativeWork },
    { url, revision }: Extract<NativeSource, { kind: "git" }>,
  ): Promise<string> {
    const { store, sources } = this.#parts;
    try {
      const { sha256, commit, tree } = await sources.fetch(url, revision);
      await store.write(async (tx) => {
        await setSource(tx, job, { kind: "tree", sha256, commit });
        const reason = `${revision} is commit ${commit}, tree ${tree}`;
        await addFacts(tx, [{ subjectKind: "job", subject: job.id, kind: "noted", reason }]);
      });
      return sha256;
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== "unavailable") throw error;
      const failures = (this.#fetchFailures.get(job.id) ?? 0) + 1;
      remember(this.#fetchFailures, job.id, failures);
      if (failures < fetchTriesMax) throw error;
      throw new MayflyError("conflict", `${error.message} (tried ${failures} times)`);
    }
  }
}

/** Jobs whose machine vanished never say that they are over: the oldest are forgotten. */
function remember(counts: Map<string, number>, job: string, count: number): void {
  counts.delete(job);
  counts.set(job, count);
  const oldest = counts.keys().next();
  if (counts.size > countsKept && oldest.done !== true) counts.delete(oldest.value);
}

function guestWork(job: StoredJob): GuestWork {
  const { work } = job;
  if (work === null) throw new MayflyError("conflict", `job ${job.id} has nothing to run`);
  const { command, environment, timeoutSeconds, artifacts, source } = work;
  return {
    job: job.id,
    command,
    environment: {
      MAYFLY_REPOSITORY: job.repository,
      ...(source.kind === "tree" && source.commit !== null ? { MAYFLY_COMMIT: source.commit } : {}),
      ...environment,
    },
    timeoutSeconds,
    artifacts,
    hasSource: source.kind !== "none",
  };
}

function outcomeOf({ how, exitCode, detail }: GuestEnd): { outcome: JobOutcome; reason: string } {
  if (how === "exited") {
    const outcome = exitCode === 0 ? "success" : "failure";
    return { outcome, reason: detail === "" ? `exit status ${exitCode}` : detail };
  }
  return { outcome: how, reason: detail === "" ? how.replace("_", " ") : detail };
}

function unauthenticated(what: "claim" | "session"): MayflyError {
  return new MayflyError("unauthenticated", `this ${what} is not one of ours`, {
    where: "authorization",
  });
}
