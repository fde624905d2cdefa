import { ProviderError } from "../domain/errors.ts";
import type { Machine, Provider } from "../providers/provider.ts";
import type { RunDesk } from "./desk.ts";
import type { RunMachine } from "./run-machine.ts";
import type { Script, Step, StepResult, Verdict } from "./steps.ts";

/** A slow host with a slow image: far more than any machine needs. */
const bootMs = 10 * 60_000;
/** Above the guest's own grace for a command that is to end: 10 s, and time to say so. */
const endingMs = 20_000;
const lookMs = 15_000;
const lookBootingMs = 2_000;
const silenceMs = 500;

export interface RunParts {
  readonly machine: RunMachine;
  readonly desk: RunDesk;
  readonly script: Script;
  /** How long all steps together may take. */
  readonly timeoutSeconds: number;
  readonly now: () => number;
  /** Aborted by the first wish to stop: the step under way is ended, its output still shown. */
  readonly stop: AbortSignal;
  /** Aborted by the second: nothing is waited for any more. */
  readonly leave: AbortSignal;
  readonly onStep: (step: Step) => void;
  readonly onStepEnd: (step: Step, result: StepResult, tookMs: number) => void;
  readonly onUp: (tookMs: number) => void;
}

/**
 * Makes the machine and runs the script's steps in it. Throws `ProviderError` when there is no
 * machine to be had. The machine is still there afterwards.
 */
export async function runScript(parts: RunParts): Promise<Verdict> {
  const { machine, desk, stop, leave } = parts;
  if (stop.aborted) return stopped();
  const askedAt = parts.now();
  const up = new Promise<true>((resolve) => (desk.onUp = () => resolve(true)));
  const boot = AbortSignal.any([stop, leave, AbortSignal.timeout(bootMs)]);
  const making = new AbortController();
  const giveUp = (): void => making.abort();
  boot.addEventListener("abort", giveUp, { once: true });
  const watch = new Watch(machine.provider, machine.name, desk);
  try {
    const made = watch.follow(machine.make(making.signal));
    const isUp = await Promise.race([up, made, watch.lost, aborted(boot)]);
    // Its making may go on until its end: from now on that is not to be given up.
    boot.removeEventListener("abort", giveUp);
    if (stop.aborted) return stopped();
    if (isUp !== true) {
      const why = typeof isUp === "string" ? isUp : "it did not come up within ten minutes";
      return { how: "lost", exitCode: null, detail: why };
    }
    watch.relax();
    parts.onUp(parts.now() - askedAt);
    return await steps(parts, watch);
  } catch (error) {
    if (stop.aborted && error instanceof ProviderError) return stopped();
    throw error;
  } finally {
    watch.close();
  }
}

async function steps(parts: RunParts, watch: Watch): Promise<Verdict> {
  const { script, desk, now } = parts;
  const endsAt = now() + parts.timeoutSeconds * 1000;
  let next = await script.next();
  while (next.done !== true) {
    const step = next.value;
    const leftSeconds = Math.floor((endsAt - now()) / 1000);
    if (leftSeconds < 1) return timedOut(parts.timeoutSeconds);
    if (parts.stop.aborted) return stopped();
    parts.onStep(step);
    const startedAt = now();
    const timeoutSeconds = Math.min(leftSeconds, step.timeoutSeconds ?? leftSeconds);
    // The guest stays up after the last one too: the machine may be wanted for a shell, and whoever
    // removes one that ends at the same moment gets in the way of its provider's own tidying.
    const running = desk.run(step, { hasMore: true, timeoutSeconds });
    const unwatch = minding(parts, step, watch, timeoutSeconds);
    const result = withTrueStatus(step, await running.finally(unwatch));
    parts.onStepEnd(step, result, now() - startedAt);
    next = await script.next(result);
  }
  return next.value;
}

function withTrueStatus({ trueStatus }: Step, result: StepResult): StepResult {
  if (result.how !== "exited" || result.exitCode === 0 || trueStatus === undefined) return result;
  return { ...result, exitCode: trueStatus(result.stderr) ?? result.exitCode };
}

/** Whatever may end a step from outside. Returns how to stop minding it. */
function minding(parts: RunParts, step: Step, watch: Watch, timeoutSeconds: number): () => void {
  const { desk, stop, leave, now } = parts;
  const timers: NodeJS.Timeout[] = [];
  const ask = (why: string, as: "cancelled" | "timed_out"): void => {
    desk.cancel(why, as);
    timers.push(setTimeout(() => desk.giveUp(as, `${why}; the machine did not answer`), endingMs));
  };
  const onStop = (): void => ask("it was interrupted", "cancelled");
  const onLeave = (): void => desk.giveUp("cancelled", "it was interrupted twice");
  // The guest keeps the time; this is for one that does not.
  const late = (): void => ask(`it ran longer than ${timeoutSeconds} s`, "timed_out");
  timers.push(setTimeout(late, Math.min(timeoutSeconds * 1000 + endingMs, 2 ** 31 - 1)));
  const { silenceSeconds } = step;
  if (silenceSeconds !== undefined) {
    const look = setInterval(() => {
      const quietMs = now() - (desk.heardAt ?? now());
      if (quietMs < silenceSeconds * 1000) return;
      clearInterval(look);
      ask(`it printed nothing for ${silenceSeconds} s`, "timed_out");
    }, 1000);
    timers.push(look);
  }
  stop.addEventListener("abort", onStop, { once: true });
  leave.addEventListener("abort", onLeave, { once: true });
  watch.onLost = (why) => desk.giveUp("lost", why);
  if (stop.aborted) onStop();
  if (leave.aborted) onLeave();
  return () => {
    for (const timer of timers) clearTimeout(timer);
    stop.removeEventListener("abort", onStop);
    leave.removeEventListener("abort", onLeave);
    watch.onLost = () => {};
  };
}

/** Looks after a machine: a guest that fell silent may have lost it. */
class Watch {
  readonly lost: Promise<string>;
  onLost: (why: string) => void = () => {};
  readonly #provider: Provider;
  readonly #name: string;
  readonly #desk: RunDesk;
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;
  #isUp = false;
  #tell: (why: string) => void = () => {};

  constructor(provider: Provider, name: string, desk: RunDesk) {
    this.#provider = provider;
    this.#name = name;
    this.#desk = desk;
    this.lost = new Promise((resolve) => (this.#tell = resolve));
    desk.onSilence = () => this.#lookSoon();
  }

  /** Looks from when it is made on. Rejects when it is not made, and else never settles. */
  async follow(made: Promise<Machine>): Promise<never> {
    try {
      const machine = await made;
      if (machine.state === "ended") this.#lose(machine);
      else if (!this.#isUp) this.#lookEach(lookBootingMs);
    } catch (error) {
      // Once it is up, it may be there still, though nobody stays with it any more.
      if (!this.#isUp) throw error;
      void this.#look();
    }
    return new Promise(() => {});
  }

  /** From now on its guest's connection says sooner than we could ask. */
  relax(): void {
    this.#isUp = true;
    this.#lookEach(lookMs);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#desk.onSilence = () => {};
    this.#closing.abort();
  }

  #lookEach(ms: number): void {
    clearInterval(this.#timer);
    if (this.#closing.signal.aborted) return;
    this.#timer = setInterval(() => void this.#look(), ms);
  }

  /** A guest hangs up at the end of each step, too; then it has something to say at once. */
  #lookSoon(): void {
    const heardAt = this.#desk.heardAt;
    const timer = setTimeout(() => {
      if (heardAt !== null && this.#desk.heardAt === heardAt) void this.#look();
    }, silenceMs);
    this.#closing.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const { signal } = this.#closing;
    try {
      const machines = await this.#provider.list(
        AbortSignal.any([signal, AbortSignal.timeout(lookMs)]),
      );
      const machine = machines.find(({ name }) => name === this.#name);
      // One that was up and is "booting" has lost what made it: only its folder is left.
      const isThere = machine?.state === "running" || (!this.#isUp && machine?.state === "booting");
      if (signal.aborted || isThere) return;
      this.#lose(machine);
    } catch (error) {
      // The next look may be answered.
      if (!(error instanceof ProviderError)) throw error;
    } finally {
      this.#isLooking = false;
    }
  }

  #lose(machine?: Machine): void {
    const code = machine?.exitCode ?? null;
    const ended = machine?.end ?? "it ended by itself";
    const how = machine?.state === "ended" ? ended : "it is no longer there";
    const why = code === null ? how : `${how}, with status ${code}${meaning(code)}`;
    this.#tell(why);
    this.onLost(why);
  }
}

function meaning(code: number): string {
  return code === 137 ? " (killed; it may have needed more memory)" : "";
}

const holdSecondsMax = 30 * 24 * 3600;

/**
 * Leaves the machine with nothing but its shell, once its steps are over, so that it stays until its
 * deadline. `word` is what the shell knocks with. Returns the work folder; null: `patience` was
 * aborted before the machine had answered.
 */
export async function hold(
  desk: RunDesk,
  word: string,
  patience: AbortSignal,
): Promise<string | null> {
  const giveUp = (): void => desk.giveUp("cancelled", "it was not to be had");
  patience.addEventListener("abort", giveUp, { once: true });
  if (patience.aborted) return null;
  try {
    const where: Step = { title: null, command: ["pwd"] };
    const { how, stdout } = await desk.run(where, { hasMore: true, timeoutSeconds: 60 });
    if (how !== "exited") return null;
    const environment = { MAYFLY_DOOR: word };
    const step: Step = { title: null, command: ["mayfly-shell"], environment };
    const taken = new Promise<void>((resolve) => {
      desk.onTaken = (taken) => {
        if (taken === step) resolve();
      };
    });
    const over = desk.run(step, { hasMore: false, timeoutSeconds: holdSecondsMax });
    return (await Promise.race([taken, over])) === undefined ? stdout.trim() : null;
  } finally {
    patience.removeEventListener("abort", giveUp);
  }
}

function stopped(): Verdict {
  return { how: "cancelled", exitCode: null, detail: "it was interrupted" };
}

function timedOut(seconds: number): Verdict {
  return { how: "timed_out", exitCode: null, detail: `all together ran longer than ${seconds} s` };
}

function aborted(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(null);
    else signal.addEventListener("abort", () => resolve(null), { once: true });
  });
}
