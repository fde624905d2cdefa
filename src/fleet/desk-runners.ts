import { MayflyError } from "../domain/errors.ts";
import type { Pool } from "../domain/pool.ts";
import type { Runner } from "../domain/runner.ts";
import type { Forge, RunnerOrders } from "../forges/forge.ts";
import { backOff, findBackOff } from "../store/back-offs.ts";
import { clip } from "../domain/words.ts";
import { noteFinish, noteHandOver } from "../store/guest.ts";
import { logTail, runnerLog } from "../store/logs.ts";
import { noteInterruption } from "../store/reruns.ts";
import { moveRunner } from "../store/runners.ts";
import type { Store } from "../store/store.ts";
import type { GuestEnd, GuestWork } from "./api.ts";
import { backOffMs } from "./calls.ts";
import { within, type Clock } from "./clock.ts";

/** Why a machine is marked whose guest told of it. */
export const noticeGiven = "its provider gave notice that it takes the machine back";
const handOverMs = 60_000;
/** How long a machine waits for a registration that its forge cannot give. */
const registrationMs = 5 * 60_000;
/** Between two questions for a job that a runner could be registered for. */
const noJobMs = 5_000;

/** Gives machines their forge's own runner, and hears how that ended. */
export class RunnerDesk {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #pools: readonly Pool[];
  /** Hand-overs under way: a guest whose answer was lost asks while we still work at the first. */
  readonly #underWay = new Map<string, Promise<RunnerOrders | null>>();

  constructor(store: Store, clock: Clock, pools: readonly Pool[]) {
    this.#store = store;
    this.#clock = clock;
    this.#pools = pools;
  }

  /**
   * Registers the runner and says what its machine runs. Throws `conflict` when the machine is not
   * wanted any more, `unavailable` when the forge refuses or is out of reach: the guest asks again.
   * Null, after a while: its forge has no job for it yet.
   */
  async handOver(runner: Runner, forge: Forge, waitMs: number): Promise<GuestWork | null> {
    const pool = this.#pools.find(({ name }) => name === runner.pool);
    if (pool === undefined) {
      throw new MayflyError("conflict", `pool ${runner.pool} is no longer configured`);
    }
    await this.#refuseTooSoon(pool);
    // Before anything is asked of the forge: from now on its machine may get a job at any moment.
    const reason = `its guest asks for the runner of ${forge.name}`;
    if (!(await this.#store.write((tx) => noteHandOver(tx, runner.name, reason)))) {
      throw new MayflyError("conflict", "the machine is not wanted any more");
    }
    const orders = await this.#orders(runner, forge, pool);
    if (orders === null) return this.#later(Math.min(waitMs, noJobMs));
    const { files, command, environment, startedText } = orders;
    const timeoutSeconds = pool.jobDeadlineSeconds + Math.max(pool.idleSeconds, idleSecondsMax);
    const work = { job: runner.name, command, environment, timeoutSeconds, files, startedText };
    return { ...work, artifacts: [], hasSource: false };
  }

  /** What its guest says of the runner's end. The job's end is the forge's to say. */
  async finish(runner: Runner, { how, exitCode, detail }: GuestEnd): Promise<void> {
    const words = detail === "" ? (how === "exited" ? `exit status ${exitCode}` : how) : detail;
    const hadJob = runner.startedAt !== null;
    const said = hadJob ? "" : await this.#lastWords(runner.name);
    const reason = `its runner is over${hadJob ? "" : " and had no job"}: ${words}${said}`;
    await this.#store.write(async (tx) => {
      if (how === "interrupted") await noteInterruption(tx, runner.name, noticeGiven);
      await noteFinish(tx, runner, reason);
      // One that ends by itself before any job does so again: not at once, then.
      if (hadJob || runner.state !== "up" || how === "interrupted") return;
      const subject = `pool/${runner.pool}`;
      await backOff(tx, subject, reason, (times) => tx.now + backOffMs("unreachable", times));
    });
  }

  #orders(runner: Runner, forge: Forge, pool: Pool): Promise<RunnerOrders | null> {
    const underWay = this.#underWay.get(runner.name) ?? this.#register(runner, forge, pool);
    this.#underWay.set(runner.name, underWay);
    return underWay;
  }

  async #register(runner: Runner, forge: Forge, pool: Pool): Promise<RunnerOrders | null> {
    const { accept, jobDeadlineSeconds } = pool;
    const { signal } = new AbortController();
    try {
      return await within(this.#clock, handOverMs, signal, async (until) => {
        const orders = await forge.handOver?.(runner, { accept, jobDeadlineSeconds }, until);
        if (orders !== undefined) return orders;
        throw new MayflyError("conflict", `${forge.name} has no runners of its own`);
      });
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      const reason = `${forge.name} gave ${runner.name} no registration: ${detail}`;
      const subject = `pool/${pool.name}`;
      // Asking again changes nothing, or has not for long: the machine costs, and what is wrong is told.
      const since = runner.handedAt ?? this.#clock.now();
      const isOver = isFinal(error) || this.#clock.now() - since >= registrationMs;
      await this.#store.write(async (tx) => {
        await backOff(tx, subject, reason, (times) => tx.now + backOffMs("unreachable", times));
        if (isOver) await moveRunner(tx, runner.name, "ended", { reason });
      });
      throw new MayflyError(isOver ? "conflict" : "unavailable", reason);
    } finally {
      this.#underWay.delete(runner.name);
    }
  }

  /** What a runner that never got a job said last: probably why. */
  async #lastWords(runner: string): Promise<string> {
    const frames = await logTail(this.#store.db, runnerLog(runner), 20);
    const own = frames.filter(({ stream }) => stream !== "mayfly");
    const text = Buffer.concat(own.map(({ bytes }) => bytes)).toString("utf8");
    const line =
      text
        .trim()
        .split("\n")
        .at(-1)
        ?.replaceAll(/\p{Cc}+/gu, " ")
        .trim() ?? "";
    return line === "" ? "" : ` (${clip(line, 300)})`;
  }

  #later(waitMs: number): Promise<null> {
    return new Promise((resolve) => this.#clock.after(waitMs, () => resolve(null)));
  }

  /** Guests ask every few seconds: a forge that just refused is not asked again by each of them. */
  async #refuseTooSoon({ name }: Pool): Promise<void> {
    const found = await findBackOff(this.#store.db, `pool/${name}`);
    if (found === null || found.until <= this.#clock.now()) return;
    throw new MayflyError("unavailable", found.reason);
  }
}

/** A refusal that only a person can change. */
function isFinal(error: unknown): boolean {
  const final = ["forbidden", "unauthenticated", "invalid", "not_found"];
  return error instanceof MayflyError && final.includes(error.code);
}

/** As long as a machine may wait for its job, whatever its pool says. */
const idleSecondsMax = 24 * 3600;
