import type { Price } from "../../domain/money.ts";
import type { InstanceType } from "./types.ts";

/** Spot of these types cost about this share of the list in August 2026, where nobody tells. */
const spotShare = 0.4;
const freshMs = 3600_000;

/** EC2 bills by the second, and at least a minute. */
const billing = { quantumSeconds: 1, minimumSeconds: 60 } as const;

/** What types cost: on demand as listed, spot as EC2 said lately, or a dated guess. */
export class Prices {
  readonly #now: () => number;
  readonly #ask: () => Promise<ReadonlyMap<string, number>>;
  #spot: ReadonlyMap<string, number> = new Map();
  #askedAt = Number.NEGATIVE_INFINITY;

  /** `ask`: micro-dollars an hour of spot by type. */
  constructor(now: () => number, ask: () => Promise<ReadonlyMap<string, number>>) {
    this.#now = now;
    this.#ask = ask;
  }

  /** Asks once an hour; where there is no answer, what was known stays. */
  async refresh(): Promise<void> {
    if (this.#now() - this.#askedAt < freshMs) return;
    this.#askedAt = this.#now();
    this.#spot = await this.#ask();
  }

  of({ name, usdPerHour }: InstanceType, isSpot: boolean): Price {
    const listed = Math.ceil(usdPerHour * 1_000_000);
    const spot = this.#spot.get(name) ?? Math.ceil(listed * spotShare);
    return { microUsdPerHour: isSpot ? spot : listed, ...billing };
  }
}
