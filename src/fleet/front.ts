import { z } from "zod";
import { MayflyError } from "../domain/errors.ts";
import { retryDelayMs } from "../domain/lifecycle.ts";
import { clip } from "../domain/words.ts";
import type { Intake } from "./api.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";

/*
 * Events that come by a queue: a front that others reach stored them, and Mayfly takes them from
 * there, so that it needs no way in and misses nothing while it is down.
 */

/** What the queue holds, with what is needed to take it off. */
export interface QueuedMessage {
  readonly receipt: string;
  readonly body: string;
}

export interface EventQueue {
  /** Waits a while for some; they stay in the queue, hidden from others for a while. */
  receive(signal: AbortSignal): Promise<readonly QueuedMessage[]>;
  /** Takes them off for good. */
  remove(messages: readonly QueuedMessage[]): Promise<void>;
  close(): void;
}

/**
 * What became of a message: news, or nothing new; `refused` by its forge's rules (a wrong
 * signature), `malformed`, both dropped; `later`: left in the queue to come again.
 */
export const frontOutcomes = ["stored", "repeated", "refused", "malformed", "later"] as const;
export type FrontOutcome = (typeof frontOutcomes)[number];

export interface FrontParts {
  readonly queue: EventQueue;
  readonly intake: Intake;
  readonly clock: Clock;
  readonly chance: () => number;
  readonly log: Log;
  /** Counts; must not throw or wait. */
  readonly took: (outcome: FrontOutcome) => void;
}

/** As the front writes it. `body` holds the very bytes that were signed, in base64. */
const messageShape = z.object({
  version: z.literal(1),
  forge: z.string().regex(/^[a-z0-9][a-z0-9-]{0,30}$/),
  headers: z.record(z.string().max(100), z.string().max(8_192)),
  address: z.string().max(45).nullish(),
  body: z.base64().max(1_400_000),
});

/** Lines held open at once: one may be busy with slow events. */
const linesOpen = 2;
/** Less than the queue hides a message for, lest another takes it meanwhile. */
const takeMs = 45_000;
/** Strangers may send anything: so often a line of the log, with a count. */
const refusalsEveryMs = 60_000;
/** What a stop waits for. */
const drainMs = 10_000;

export class Front {
  readonly #parts: FrontParts;
  readonly #stop = new AbortController();
  #lines: readonly Promise<void>[] = [];
  #refused = 0;
  #saidAt = Number.NEGATIVE_INFINITY;

  constructor(parts: FrontParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#lines = Array.from({ length: linesOpen }, () => this.#line());
  }

  /** Takes nothing new; resolves when what was taken is done, or after ten seconds. */
  async stop(): Promise<void> {
    this.#stop.abort();
    const { clock, queue } = this.#parts;
    const late = Promise.withResolvers<void>();
    const callOff = clock.after(drainMs, late.resolve);
    await Promise.race([Promise.all(this.#lines), late.promise]);
    callOff();
    queue.close();
  }

  async #line(): Promise<void> {
    const { queue, log } = this.#parts;
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted;) {
      try {
        const messages = await queue.receive(signal);
        const isLate = await this.#takeAll(messages);
        failures = isLate ? failures + 1 : 0;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        const reason = error instanceof Error ? error.message : String(error);
        log.warn({ failures }, `the front's queue cannot be used: ${clip(reason, 300)}`);
      }
      if (failures > 0) await this.#pause(failures);
    }
  }

  /** Takes off what is stored or worth nothing. True: some have to come again. */
  async #takeAll(messages: readonly QueuedMessage[]): Promise<boolean> {
    const outcomes = await Promise.all(messages.map((message) => this.#take(message)));
    for (const outcome of outcomes) this.#parts.took(outcome);
    const done = messages.filter((_, n) => outcomes[n] !== "later");
    // Killed before this, we are told again what we know: that changes nothing.
    if (done.length > 0) await this.#parts.queue.remove(done);
    return done.length < messages.length;
  }

  async #take({ body }: QueuedMessage): Promise<FrontOutcome> {
    const parsed = messageShape.safeParse(json(body));
    if (!parsed.success) return this.#refuse("malformed", "it is none of the front's");
    const { forge, headers, address = null, body: base64 } = parsed.data;
    const request = { headers, body: Buffer.from(base64, "base64"), address };
    try {
      const received = await this.#within(this.#parts.intake.receive(forge, request));
      return received.repeated ? "repeated" : "stored";
    } catch (error) {
      if (isRefusal(error)) return this.#refuse("refused", `${forge}: ${error.message}`);
      const reason = error instanceof Error ? error.message : String(error);
      this.#parts.log.warn({ forge }, `an event stays in the queue: ${clip(reason, 300)}`);
      return "later";
    }
  }

  #within<T>(work: Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>();
    const callOff = this.#parts.clock.after(takeMs, () =>
      late.reject(new Error("it took too long")),
    );
    return Promise.race([work, late.promise]).finally(callOff);
  }

  #refuse(outcome: "refused" | "malformed", reason: string): FrontOutcome {
    this.#refused += 1;
    const now = this.#parts.clock.now();
    if (now - this.#saidAt < refusalsEveryMs) return outcome;
    const fields = { events: this.#refused };
    this.#parts.log.warn(fields, `dropped from the front's queue: ${clip(reason, 200)}`);
    this.#saidAt = now;
    this.#refused = 0;
    return outcome;
  }

  #pause(failures: number): Promise<void> {
    const { clock, chance } = this.#parts;
    const { signal } = this.#stop;
    return new Promise((resolve) => {
      const done = (): void => {
        callOff();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const callOff = clock.after(retryDelayMs(failures, chance()), done);
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
    });
  }
}

/** It would be refused again, however often it came. */
function isRefusal(error: unknown): error is MayflyError {
  return error instanceof MayflyError && error.code !== "unavailable" && error.code !== "too_many";
}

function json(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
