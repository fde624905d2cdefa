import pLimit from "p-limit";
import { ProviderError, type ProviderFailure } from "../domain/errors.ts";
import type { Program } from "../domain/program.ts";
import type { Machine, MachineSpec, Provider } from "../providers/provider.ts";
import { within, type Clock } from "./clock.ts";
import type { Observer } from "./observer.ts";
import type { HeldLease } from "./tenure.ts";

/** How long one call to a provider may take before its outcome counts as unknown. */
const limitsMs = { create: 120_000, list: 60_000, destroy: 60_000 } as const;
type Call = keyof typeof limitsMs;

/**
 * A provider as the fleet sees it: so many calls at once and no more, each with a deadline, every
 * failure one of the closed set, and counted.
 */
export class Calls {
  readonly provider: Provider;
  readonly #clock: Clock;
  readonly #observer: Observer;
  readonly #limit: ReturnType<typeof pLimit>;
  #listedAt: number | null = null;

  constructor(provider: Provider, clock: Clock, observer: Observer, atOnce: number) {
    this.provider = provider;
    this.#clock = clock;
    this.#observer = observer;
    this.#limit = pLimit(atOnce);
  }

  /** The last answered listing, ms. */
  get listedAt(): number | null {
    return this.#listedAt;
  }

  /** Only under the lease: what is made late would be made again after it was removed. */
  create(
    spec: MachineSpec,
    program: Program,
    lease: HeldLease,
    signal: AbortSignal,
  ): Promise<Machine> {
    return this.#call("create", signal, (within) => {
      lease.check();
      return this.provider.create(spec, program, within);
    });
  }

  destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending"> {
    return this.#call("destroy", signal, (within) => this.provider.destroy(name, within));
  }

  async list(signal: AbortSignal): Promise<readonly Machine[]> {
    const machines = await this.#call("list", signal, (within) => this.provider.list(within));
    this.#listedAt = this.#clock.now();
    return machines;
  }

  #call<T>(call: Call, parent: AbortSignal, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#limit(async () => {
      try {
        return await within(this.#clock, limitsMs[call], parent, run);
      } catch (error) {
        const failure = asProviderError(error);
        // To be stopped is nobody's failure.
        if (parent.aborted) throw failure;
        this.#observer.providerFailed(this.provider.name, call, failure.kind);
        throw failure;
      }
    });
  }
}

/** What is not a `ProviderError` is a provider's bug; its effect is unknown, like a lost answer. */
export function asProviderError(error: unknown): ProviderError {
  if (error instanceof ProviderError) return error;
  const detail = error instanceof Error ? error.message : String(error);
  return new ProviderError("unreachable", detail);
}

const minuteMs = 60_000;

/**
 * How long to leave a provider (or pool) alone after its nth failure in a row. `invalid` waits
 * longest: only a person can mend it.
 */
export function backOffMs(kind: ProviderFailure, failures: number, retryAfterMs?: number): number {
  if (retryAfterMs !== undefined) return Math.min(retryAfterMs, 15 * minuteMs);
  const first: Record<ProviderFailure, number> = {
    no_capacity: 10_000,
    quota: minuteMs,
    throttled: 5_000,
    invalid: 5 * minuteMs,
    gone: 1_000,
    unreachable: 5_000,
  };
  return Math.min(first[kind] * 2 ** Math.min(failures - 1, 8), 10 * minuteMs);
}
