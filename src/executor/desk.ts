import type { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";
import { isInnerPath } from "../domain/native-work.ts";
import type { Frame } from "../guest/wire.ts";
import { Bell } from "./bell.ts";
import { keepInMemory } from "./memory-files.ts";
import { isSame } from "./secret.ts";
import { Tail } from "./tail.ts";
import type { Step, StepResult } from "./steps.ts";

/** What a step's files become. */
export interface Kept {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
  readonly at: number;
}

export interface DeskParts {
  /** The machine's one-time claim, and the session that it is exchanged for. */
  readonly claim: string;
  readonly session: string;
  readonly machine: string;
  readonly now: () => number;
  /** The tree that the first step is run on; null: none. */
  readonly source: (() => Promise<Readable>) | null;
  /** Variables of every step. */
  readonly environment: Readonly<Record<string, string>>;
  /** Shows output; what is not shown yet is not taken from the machine either. */
  readonly show: (step: Step, frame: Frame) => Promise<void>;
  /** Keeps a file brought out. Throws `too_large` when there is no room for it. */
  readonly keep: (path: string, body: Readable) => Promise<{ sha256: string; size: number }>;
}

const silentBytesMax = 4 * 1024 * 1024;
const tailBytesMax = 16 * 1024;
const stepsMax = 10_000;

/** A step as it is under way. */
interface Current {
  readonly step: Step;
  readonly number: number;
  readonly hasMore: boolean;
  readonly timeoutSeconds: number;
  readonly stdout: Tail;
  readonly stderr: Tail;
  readonly files: Map<string, Buffer>;
  readonly settle: (result: StepResult) => void;
  lastSeq: number;
  heardAt: number;
  cancel: string | null;
  /** What becomes of it once it is cancelled. */
  cancelledAs: "cancelled" | "timed_out";
}

/**
 * The manager's side of one guest's questions, for one run: in memory, in this process, without a
 * store. It answers in the words of `guestRoutes`, so the guest cannot tell it from a fleet.
 */
export class RunDesk {
  readonly #parts: DeskParts;
  #nonce: string | null = null;
  #current: Current | null = null;
  #steps = 0;
  #isOver = false;
  #order = Promise.resolve();
  readonly #bell = new Bell();
  /** Told when the guest has redeemed its claim: its machine is up. */
  onUp: () => void = () => {};
  /** Told when a step was handed over. */
  onTaken: (step: Step) => void = () => {};
  /** Told when the guest hangs up though it is expected to listen. */
  onSilence: () => void = () => {};

  constructor(parts: DeskParts) {
    this.#parts = parts;
  }

  // What the run asks of it.

  /** Hands a step to the machine; resolves when it is over. One at a time. */
  run(step: Step, options: { hasMore: boolean; timeoutSeconds: number }): Promise<StepResult> {
    if (this.#current !== null) throw new Error("a step is under way");
    if (this.#isOver || this.#steps >= stepsMax) throw new Error("there are no more steps");
    return new Promise((settle) => {
      const most = step.title === null ? silentBytesMax : tailBytesMax;
      this.#current = {
        step,
        number: ++this.#steps,
        ...options,
        stdout: new Tail(most),
        stderr: new Tail(most),
        files: new Map(),
        settle,
        lastSeq: 0,
        heardAt: this.#parts.now(),
        cancel: null,
        cancelledAs: "cancelled",
      };
      this.#bell.ring();
    });
  }

  /** Asks the machine to end the step under way; it ends as `as`. */
  cancel(reason: string, as: "cancelled" | "timed_out" = "cancelled"): void {
    if (this.#current === null || this.#current.cancel !== null) return;
    this.#current.cancel = reason;
    this.#current.cancelledAs = as;
    this.#bell.ring();
  }

  /** The step under way ended without a word of the machine. */
  giveUp(how: "lost" | "cancelled" | "error" | "timed_out", detail: string): void {
    this.#finish(how, null, detail);
  }

  /** When something was last printed, ms; null: no step is under way. */
  get heardAt(): number | null {
    return this.#current?.heardAt ?? null;
  }

  /** Nothing more is to be done: a machine that asks is told to end. False: one is still at work. */
  end(): boolean {
    this.#isOver = true;
    this.#bell.ring();
    return this.#current === null;
  }

  // What the guest asks of it; the words and errors of the fleet's own desk.

  async redeem(claim: string, nonce: string): Promise<{ session: string; runner: string }> {
    if (!isSame(claim, this.#parts.claim)) throw unauthenticated("claim");
    if (!/^[0-9a-f]{32,128}$/.test(nonce)) {
      throw new MayflyError("invalid", "it must be 32 to 128 hexadecimal digits", {
        where: "nonce",
      });
    }
    if (this.#nonce !== null && !isSame(nonce, this.#nonce)) {
      throw new MayflyError("conflict", "this claim was already redeemed");
    }
    const isFirst = this.#nonce === null;
    this.#nonce = nonce;
    if (isFirst) this.onUp();
    return { session: this.#parts.session, runner: this.#parts.machine };
  }

  async work(session: string, waitMs: number, signal: AbortSignal): Promise<RunWork | null> {
    this.#check(session);
    await this.#bell.until(() => this.#isOver || this.#current !== null, waitMs, signal);
    if (this.#current !== null) {
      this.onTaken(this.#current.step);
      return this.#workOf(this.#current);
    }
    if (this.#isOver) throw new MayflyError("conflict", "this run is over");
    return null;
  }

  async source(session: string): Promise<Readable> {
    this.#check(session);
    if (this.#parts.source === null) throw new MayflyError("not_found", "there is no source");
    return this.#parts.source();
  }

  async append(session: string, frames: readonly Frame[]): Promise<{ cancel: string | null }> {
    this.#check(session);
    // In order, and each once, though a guest that grew impatient sends a batch again.
    const mine = this.#order.then(() => this.#take(frames));
    this.#order = mine.catch(() => {});
    await mine;
    return { cancel: this.#current?.cancel ?? null };
  }

  async orders(
    session: string,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<{ cancel: string | null }> {
    this.#check(session);
    const { number } = this.#current ?? { number: 0 };
    const isDone = (): boolean =>
      this.#current?.number !== number || this.#current.cancel !== null || this.#isOver;
    await this.#bell.until(isDone, waitMs, signal);
    if (signal.aborted && this.#current?.number === number) this.onSilence();
    return { cancel: this.#current?.number === number ? (this.#current.cancel ?? null) : null };
  }

  async keepArtifact(session: string, path: string, body: Readable): Promise<Kept> {
    this.#check(session);
    const current = this.#current;
    if (current?.step.artifacts === undefined) {
      throw new MayflyError("conflict", "no file was asked for");
    }
    if (!isInnerPath(path)) {
      throw new MayflyError("invalid", "it is no path below its folder", { where: "path" });
    }
    const at = this.#parts.now();
    if (current.step.artifacts.to === "folder") {
      return { path, at, ...(await this.#parts.keep(path, body)) };
    }
    return { path, at, ...(await keepInMemory(current.files, path, body)) };
  }

  async finish(
    session: string,
    end: {
      how: "exited" | "timed_out" | "cancelled" | "interrupted" | "error";
      exitCode: number | null;
      detail: string;
    },
  ): Promise<void> {
    this.#check(session);
    await this.#order;
    const isCancelled = end.how === "cancelled" && this.#current !== null;
    const how = isCancelled ? this.#current!.cancelledAs : end.how;
    this.#finish(how === "interrupted" ? "lost" : how, end.exitCode, end.detail);
  }

  #finish(how: StepResult["how"], exitCode: number | null, detail: string): void {
    const current = this.#current;
    if (current === null) return;
    this.#current = null;
    this.#bell.ring();
    const { stdout, stderr, files } = current;
    current.settle({ how, exitCode, detail, stdout: stdout.text, stderr: stderr.text, files });
  }

  async #take(frames: readonly Frame[]): Promise<void> {
    const current = this.#current;
    if (current === null) return;
    for (const frame of frames) {
      if (frame.seq <= current.lastSeq) continue;
      current.lastSeq = frame.seq;
      if (frame.stream !== "mayfly") {
        current.heardAt = this.#parts.now();
        current[frame.stream].add(frame.bytes);
      }
      await this.#parts.show(current.step, frame);
    }
  }

  #workOf({ step, number, hasMore, timeoutSeconds }: Current): RunWork {
    return {
      job: `${this.#parts.machine}.${number}`,
      command: step.command,
      environment: { ...this.#parts.environment, ...step.environment },
      timeoutSeconds,
      artifacts: step.artifacts?.patterns ?? [],
      hasSource: number === 1 && this.#parts.source !== null,
      ...(step.artifacts?.root == null ? {} : { artifactRoot: step.artifacts.root }),
      ...(hasMore ? { hasMore: true as const } : {}),
    };
  }

  #check(session: string): void {
    if (this.#nonce === null || !isSame(session, this.#parts.session)) {
      throw unauthenticated("session");
    }
  }
}

interface RunWork {
  readonly job: string;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number;
  readonly artifacts: readonly string[];
  readonly hasSource: boolean;
  readonly artifactRoot?: string;
  readonly hasMore?: true;
}

function unauthenticated(what: "claim" | "session"): MayflyError {
  return new MayflyError("unauthenticated", `this ${what} is not the run's`, {
    where: "authorization",
  });
}
