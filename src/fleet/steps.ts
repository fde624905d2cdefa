import { ProviderError } from "../domain/errors.ts";
import type { JobOutcome } from "../domain/job.ts";
import { retryDelayMs } from "../domain/lifecycle.ts";
import type { Pool } from "../domain/pool.ts";
import type { Program } from "../domain/program.ts";
import type { Runner } from "../domain/runner.ts";
import type { Forge } from "../forges/forge.ts";
import type { Machine } from "../providers/provider.ts";
import { backOff, endBackOff } from "../store/back-offs.ts";
import { endJobOf } from "../store/jobs.ts";
import { addFacts } from "../store/facts.ts";
import { checkLease } from "../store/leases.ts";
import { moveRunner, postponeRunner, readRunner, setBirth } from "../store/runners.ts";
import type { Store, Tx } from "../store/store.ts";
import { asProviderError, backOffMs, type Calls } from "./calls.ts";
import { within, type Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import type { Minter } from "./mint.ts";
import type { HeldLease } from "./tenure.ts";

const forgeCallMs = 30_000;
/** How soon a provider that is still ending a machine is asked again. */
const endingAgainMs = 1000;

export interface StepParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly chance: () => number;
  readonly forge: Forge;
  readonly calls: Calls;
  readonly minter: Minter;
  readonly log: Log;
}

/** A container's id is known by its beginning; a path that ends in the name says nothing more. */
function handleText({ name, handle }: Machine): string {
  if (handle.endsWith(name)) return "it";
  return handle.slice(0, /^[0-9a-f]{64}$/.test(handle) ? 12 : 64);
}

/**
 * The steps of a runner's life that reach outside: each may be repeated, and each failure leaves
 * the runner with a decided next step. What decides something is written under the pool's lease.
 */
export class RunnerSteps {
  readonly #pool: Pool;
  readonly #parts: StepParts;
  /** Claimed by this process and not asked for yet: their machines surely do not exist. */
  readonly #unasked = new Set<string>();

  constructor(pool: Pool, parts: StepParts) {
    this.#pool = pool;
    this.#parts = parts;
  }

  /** Just recorded under our lease. */
  claimed(names: readonly string[]): void {
    for (const name of names) this.#unasked.add(name);
  }

  /** Asks for the machine. The same name again gives the same one. */
  async create(runner: Runner, lease: HeldLease, signal: AbortSignal): Promise<void> {
    const { store, calls, clock, log, forge } = this.#parts;
    const startedAt = clock.now();
    const isFirst = this.#unasked.has(runner.name);
    let machine: Machine;
    try {
      const program = await this.#mint(runner, lease, signal);
      if (runner.bornAt === null) await this.#expectBirth(runner, lease);
      this.#unasked.delete(runner.name);
      machine = await this.#make(runner, program, lease, signal);
    } catch (error) {
      // Stopping is nobody's failure, nor is a lease that ran out: whoever is next repeats the call.
      if (signal.aborted) return;
      if (error instanceof ProviderError) return this.#createFailed(runner, lease, error, isFirst);
      return this.#mintFailed(runner, lease, error);
    }
    const tookMs = clock.now() - startedAt;
    const reason = `${calls.provider.name} made ${handleText(machine)} in ${tookMs} ms`;
    const isWanted = await store.write(async (tx) => {
      // Its next time is known already; a round of its own to find it would cost every machine one.
      const dueAt = tx.now + this.#pool.bootDeadlineSeconds * 1000;
      await moveRunner(tx, runner.name, "asked", { reason, dueAt });
      await endBackOff(tx, `provider/${calls.provider.name}`);
      // A forge's runner may still end before any job; then its pool waits longer each time.
      if (forge.handOver === undefined) await endBackOff(tx, `pool/${this.#pool.name}`);
      const now = (await readRunner(tx, runner.name))?.state ?? "gone";
      return now !== "ended" && now !== "gone";
    });
    log.info({ runner: runner.name, pool: this.#pool.name }, reason);
    if (!isWanted) await this.#takeBack(runner);
  }

  /**
   * It was brought to its end, perhaps by another replica, while we asked for it: then its machine
   * may have been removed before ours was made. Names are given once, so this hits no other.
   */
  async #takeBack(runner: Runner): Promise<void> {
    const { store, calls, log } = this.#parts;
    // Also when the lease is gone, as it probably is; the calls have limits of their own.
    const { signal } = new AbortController();
    await this.#deregister(runner, signal);
    const outcome = await calls.destroy(runner.name, signal);
    const reason = `${calls.provider.name} made it after its end was decided; destroyed: ${outcome}`;
    await store.write((tx) =>
      addFacts(tx, [{ subjectKind: "runner", subject: runner.name, kind: "swept", reason }]),
    );
    log.warn({ runner: runner.name, pool: this.#pool.name }, reason);
  }

  #mint(runner: Runner, lease: HeldLease, signal: AbortSignal): Promise<Program> {
    const { minter, forge, calls, clock } = this.#parts;
    return within(clock, forgeCallMs, signal, () => {
      lease.check();
      return minter.mint(forge, runner, this.#pool, calls.provider);
    });
  }

  #make(
    { name, size, isOnDemand }: Runner,
    program: Program,
    lease: HeldLease,
    signal: AbortSignal,
  ): Promise<Machine> {
    const { image, network, accept } = this.#pool;
    const kind = isOnDemand === true ? { isOnDemand } : {};
    const spec = { name, size, image, network, trust: accept, ...kind };
    return this.#parts.calls.create(spec, program, lease, signal);
  }

  async #createFailed(
    runner: Runner,
    lease: HeldLease,
    error: ProviderError,
    isFirst: boolean,
  ): Promise<void> {
    const { store, calls, log } = this.#parts;
    const provider = calls.provider.name;
    const reason = `${provider} refused (${error.kind}): ${error.message}`;
    await store.write(async (tx) => {
      await checkLease(tx, lease);
      const subject = error.kind === "invalid" ? `pool/${this.#pool.name}` : `provider/${provider}`;
      await backOff(
        tx,
        subject,
        reason,
        (failures) => tx.now + backOffMs(error.kind, failures, error.retryAfterMs),
      );
      if (error.kind === "unreachable" || error.kind === "throttled" || !isFirst) {
        // It may exist, and run a job: the same name again, until the boot deadline decides.
        await this.#retryLater(tx, runner, reason);
      } else {
        // Refused at the first request, there never was a machine.
        await moveRunner(tx, runner.name, "ended", { reason, isUnborn: true });
      }
    });
    log.warn({ runner: runner.name, pool: this.#pool.name, failure: error.kind }, reason);
  }

  /** The forge's trouble is not the provider's: only this pool waits. */
  async #mintFailed(runner: Runner, lease: HeldLease, error: unknown): Promise<void> {
    const { store, forge, log } = this.#parts;
    const detail = error instanceof Error ? error.message : String(error);
    const reason = `${forge.name} gave it no registration: ${detail}`;
    await store.write(async (tx) => {
      await checkLease(tx, lease);
      const subject = `pool/${this.#pool.name}`;
      await backOff(tx, subject, reason, (times) => tx.now + backOffMs("unreachable", times));
      await this.#retryLater(tx, runner, reason);
      if (this.#unasked.has(runner.name)) await setBirth(tx, runner.name, null);
    });
    log.warn({ runner: runner.name, pool: this.#pool.name }, reason);
  }

  /** Its machine is asked for now, after a time in which the provider was not asked at all. */
  #expectBirth({ name }: Runner, lease: HeldLease): Promise<void> {
    return this.#parts.store.write(async (tx) => {
      await checkLease(tx, lease);
      await setBirth(tx, name, tx.now);
    });
  }

  /** Deregister first; a forge that calls it busy keeps it alive. */
  async end(
    runner: Runner,
    lease: HeldLease,
    { reason, outcome = "lost" }: { reason: string; outcome?: JobOutcome },
    signal: AbortSignal,
  ): Promise<void> {
    const { store, forge, log } = this.#parts;
    lease.check();
    if (runner.state !== "started") {
      const removed = await this.#deregister(runner, signal);
      if (removed === "failed") {
        return this.#postpone(runner, lease, `cannot ask ${forge.name} to let go of it`);
      }
      if (removed === "busy") {
        // It took a job that we were not told of yet. The forge knows better than our lists.
        await store.write(async (tx) => {
          await checkLease(tx, lease);
          await moveRunner(tx, runner.name, "started", { reason: `${forge.name} says it is busy` });
        });
        return;
      }
    }
    this.#unasked.delete(runner.name);
    const isOver = await store.write(async (tx) => {
      await checkLease(tx, lease);
      const now = await readRunner(tx, runner.name);
      // Its guest was quicker: it got a job before it was let go.
      if (now?.state === "up" && now.startedAt !== null) return false;
      await moveRunner(tx, runner.name, "ended", { reason });
      await endJobOf(tx, runner.name, outcome, reason);
      return true;
    });
    if (isOver) log.info({ runner: runner.name, pool: this.#pool.name }, `ended: ${reason}`);
  }

  /** What its guest said counts, when its forge had the time to say it too. */
  async begin({ name }: Runner, lease: HeldLease, reason: string): Promise<void> {
    await this.#parts.store.write(async (tx) => {
      await checkLease(tx, lease);
      await moveRunner(tx, name, "started", { reason });
    });
  }

  /** Removes registration and machine until both are gone. A forge out of reach does not stop us. */
  async remove(runner: Runner, lease: HeldLease, signal: AbortSignal): Promise<void> {
    const { store, calls, log } = this.#parts;
    await this.#deregister(runner, signal);
    let outcome: "gone" | "ending";
    try {
      outcome = await calls.destroy(runner.name, signal);
    } catch (error) {
      if (signal.aborted) return;
      const failure = asProviderError(error);
      if (failure.kind !== "gone") {
        return this.#postpone(runner, lease, `cannot be destroyed yet: ${failure.message}`);
      }
      outcome = "gone";
    }
    if (outcome === "ending") return this.#postpone(runner, lease, null);
    await store.write(async (tx) => {
      const reason = `${calls.provider.name} confirms it is gone`;
      await moveRunner(tx, runner.name, "gone", { reason });
      await endJobOf(tx, runner.name, "lost", "its machine is gone");
    });
    log.info({ runner: runner.name, pool: this.#pool.name }, "gone");
  }

  async #deregister(runner: Runner, signal: AbortSignal): Promise<"gone" | "busy" | "failed"> {
    const { forge, clock, log } = this.#parts;
    try {
      return await within(clock, forgeCallMs, signal, (until) => forge.remove(runner.name, until));
    } catch (error) {
      log.warn(
        { runner: runner.name, forge: forge.name, error: String(error) },
        "not deregistered",
      );
      return "failed";
    }
  }

  async #postpone(runner: Runner, lease: HeldLease, failure: string | null): Promise<void> {
    await this.#parts.store.write(async (tx) => {
      await checkLease(tx, lease);
      await this.#retryLater(tx, runner, failure);
    });
  }

  #retryLater(tx: Tx, runner: Runner, failure: string | null): Promise<void> {
    const delay =
      failure === null ? endingAgainMs : retryDelayMs(runner.tries, this.#parts.chance());
    return postponeRunner(tx, runner, tx.now + delay, failure);
  }
}
