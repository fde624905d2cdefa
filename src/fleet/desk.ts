import type { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";
import type { JobOutcome, NativeWork } from "../domain/job.ts";
import type { Pool } from "../domain/pool.ts";
import type { Runner } from "../domain/runner.ts";
import type { Forge } from "../forges/forge.ts";
import { cancelTopic, endJob, findCancellation, findGuest } from "../store/guest.ts";
import { noteStart, redeemClaim } from "../store/guest.ts";
import type { Artifact, LogFrame } from "../store/logs.ts";
import { findJob, type StoredJob } from "../store/questions.ts";
import { noteInterruption } from "../store/reruns.ts";
import { endRunner } from "../store/runners.ts";
import type { Store } from "../store/store.ts";
import type { Provider } from "../providers/provider.ts";
import type { GuestDesk, GuestEnd, GuestWork } from "./api.ts";
import type { Clock } from "./clock.ts";
import { ArtifactDesk } from "./desk-artifacts.ts";
import { IdentityDesk } from "./desk-identity.ts";
import { LogDesk } from "./desk-log.ts";
import { noticeGiven, RunnerDesk } from "./desk-runners.ts";
import { SourceDesk } from "./desk-sources.ts";
import { nonceDigest, runnerOf, sameToken, type GuestTokens } from "./desk-tokens.ts";
import { Topics } from "./desk-topics.ts";
import { WorkLine } from "./desk-work.ts";
import type { ContentFolder, Sources } from "./native-files.ts";

export interface DeskParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly tokens: GuestTokens;
  readonly sources: Sources;
  readonly artifacts: ContentFolder;
  readonly pools: readonly Pool[];
  readonly forges: ReadonlyMap<string, Forge>;
  readonly providers: ReadonlyMap<string, Provider>;
}

/** The manager's side of what guests ask, on any replica: all that lasts is in the store. */
export class Desk implements GuestDesk {
  readonly #parts: DeskParts;
  readonly #topics: Topics;
  readonly #line: WorkLine;
  readonly #log: LogDesk;
  readonly #sources: SourceDesk;
  readonly #artifacts: ArtifactDesk;
  readonly #runners: RunnerDesk;
  readonly #identity: IdentityDesk;

  constructor(parts: DeskParts) {
    const { store, clock } = parts;
    this.#parts = parts;
    this.#topics = new Topics(store);
    this.#line = new WorkLine(store, clock, this.#topics);
    this.#log = new LogDesk(store);
    this.#sources = new SourceDesk(store, parts.sources);
    this.#artifacts = new ArtifactDesk(store, parts.artifacts);
    this.#identity = new IdentityDesk(store, clock, parts.providers);
    this.#runners = new RunnerDesk(store, clock, parts.pools);
  }

  async redeem(
    claim: string,
    nonce: string,
    proof = "",
  ): Promise<{ session: string; runner: string }> {
    const { store, tokens } = this.#parts;
    const runner = runnerOf(claim);
    if (runner === null || !sameToken(claim, tokens.claim(runner))) throw unauthenticated("claim");
    if (!/^[0-9a-f]{32,128}$/.test(nonce)) {
      throw new MayflyError("invalid", "it must be 32 to 128 hexadecimal digits", {
        where: "nonce",
      });
    }
    await this.#identity.check(runner, proof);
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
    const forge = this.#parts.forges.get(runner.forge);
    if (forge?.handOver !== undefined) return this.#runners.handOver(runner, forge, waitMs);
    const result = await this.#line.next(runner, waitMs, signal);
    if (result.kind === "over") throw new MayflyError("conflict", result.reason);
    return result.kind === "none" ? null : guestWork(result.job);
  }

  async source(session: string): Promise<Readable> {
    return this.#sources.open(await this.#startedJob(session));
  }

  async append(
    session: string,
    frames: readonly LogFrame[],
    started = false,
  ): Promise<{ cancel: string | null }> {
    const runner = await this.#runner(session);
    const cancel = await this.#order(runner);
    if (runner.handedAt !== null) {
      if (started && runner.startedAt === null) {
        await this.#parts.store.write((tx) => noteStart(tx, runner.name));
      }
      await this.#log.append({ kind: "runner", id: runner.name }, frames);
    } else if (runner.job !== null) {
      await this.#log.append({ kind: "job", id: runner.job }, frames);
    }
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
    const { id } = await this.#startedJob(session);
    return this.#artifacts.keep(id, path, body);
  }

  async finish(session: string, end: GuestEnd): Promise<void> {
    const runner = await this.#runner(session);
    if (runner.handedAt !== null) return this.#runners.finish(runner, end);
    if (runner.job === null) throw new MayflyError("conflict", "this machine has no job");
    const id = runner.job;
    await this.#parts.store.write(async (tx) => {
      const job = await findJob(tx.db, id);
      if (job === null) return;
      if (end.how === "interrupted") await noteInterruption(tx, runner.name, noticeGiven);
      await endJob(tx, job, { ...outcomeOf(end), exitCode: end.exitCode });
      await endRunner(tx, runner.name, `its job ${id} is over: ${outcomeOf(end).reason}`);
    });
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
    // A forge's runner knows best when it is over; the end of its rest is the end of its machine.
    if (runner.handedAt !== null) return runner.state === "gone" ? runner.reason : null;
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
  const reason = detail === "" ? how.replace("_", " ") : detail;
  return { outcome: how === "interrupted" ? "lost" : how, reason };
}

function unauthenticated(what: "claim" | "session"): MayflyError {
  return new MayflyError("unauthenticated", `this ${what} is not one of ours`, {
    where: "authorization",
  });
}
