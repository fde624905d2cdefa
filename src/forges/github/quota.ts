import { MayflyError } from "../../domain/errors.ts";

/** What is left of a resource's hourly quota, as GitHub's answers tell it. */
interface Level {
  readonly limit: number;
  readonly remaining: number;
  readonly resetAt: number;
}

export type Headers = Readonly<Record<string, string | number | undefined>>;

/** Above this share of the quota, polls take all they want; below, less and less. */
const slowBelow = 0.5;
/** Kept for handing over, asking about an event and removing: polls stop here. */
const keptShare = 0.1;
/** What GitHub asks for when it limits without saying for how long. */
const pauseMs = 60_000;
/** A pause longer than a quota's hour is a mistake of somebody's clock. */
const pauseMaxMs = 3_600_000;

/**
 * GitHub's limits as far as its answers have told them. Two kinds: a quota of requests an hour, of
 * which there may be several ("resources"), and the secondary limits, which say nothing until they
 * strike. (docs.github.com, "Rate limits for the REST API".)
 */
export class Quota {
  readonly #now: () => number;
  readonly #levels = new Map<string, Level>();
  /** Which resource a route was last counted on. */
  readonly #resources = new Map<string, string>();
  #pausedUntil = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Takes in what an answer says, whatever its status. */
  learn(route: string, headers: Headers): void {
    const limit = Number(headers["x-ratelimit-limit"]);
    const remaining = Number(headers["x-ratelimit-remaining"]);
    const resetAt = Number(headers["x-ratelimit-reset"]) * 1000;
    if (!(limit > 0) || !(remaining >= 0) || !Number.isFinite(resetAt)) return;
    const resource = String(headers["x-ratelimit-resource"] ?? "core").slice(0, 50);
    this.#resources.set(route, resource);
    if (this.#levels.size < 50 || this.#levels.has(resource)) {
      this.#levels.set(resource, { limit, remaining, resetAt });
    }
  }

  /**
   * An answer that refuses for a limit. Not the hourly quota's, which its headers tell: then nothing
   * at all is asked until it is over, since asking on makes it longer.
   */
  limited(headers: Headers): void {
    if (headers["x-ratelimit-remaining"] === "0") return;
    const seconds = Number(headers["retry-after"]);
    const ms = seconds > 0 ? Math.min(seconds * 1000, pauseMaxMs) : pauseMs;
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#now() + ms);
  }

  /** Throws `too_many`, with when to come back, if asking now is pointless. Nothing ever waits. */
  check(route: string): void {
    const now = this.#now();
    if (now < this.#pausedUntil) throw tooMany("for too many requests at once", this.#pausedUntil);
    const level = this.#levels.get(this.#resources.get(route) ?? "core");
    if (level !== undefined && level.remaining === 0 && now < level.resetAt) {
      throw tooMany(`since all ${level.limit} requests of this hour are used`, level.resetAt);
    }
  }

  /**
   * How much of what it would like to ask a poll may: 1 while more than half of the quota is left,
   * then less in proportion, and from a tenth on nothing, which throws `too_many`.
   */
  share(): number {
    this.check("");
    const level = this.#levels.get("core");
    if (level === undefined || this.#now() >= level.resetAt) return 1;
    const left = level.remaining / level.limit;
    if (left > slowBelow) return 1;
    if (left > keptShare) return (left - keptShare) / (slowBelow - keptShare);
    throw tooMany(
      `to polls: ${level.remaining} of ${level.limit} requests are left, kept for runners`,
      level.resetAt,
    );
  }
}

function tooMany(why: string, until: number): MayflyError {
  const at = new Date(until).toISOString().replace(/\.\d+Z$/, "Z");
  return new MayflyError("too_many", `GitHub gives no more answers until ${at}, ${why}`, {
    hint: "Events are taken meanwhile. A GitHub App has a larger quota than a token, of its own.",
  });
}
