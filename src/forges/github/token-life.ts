import type { ForgeLog } from "../context.ts";

const dayMs = 24 * 3600_000;
const warnDays = 14;

/** Tells the operator days ahead that the token is about to end: once a day. */
export class TokenLife {
  readonly #now: () => number;
  readonly #log: ForgeLog;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(now: () => number, log: ForgeLog) {
    this.#now = now;
    this.#log = log;
  }

  told(expiresAt: number): void {
    const now = this.#now();
    const days = Math.floor((expiresAt - now) / dayMs);
    if (days >= warnDays || now - this.#toldAt < dayMs) return;
    this.#toldAt = now;
    const at = new Date(expiresAt).toISOString();
    this.#log.warn({ expiresAt: at }, `GitHub's token ends in ${Math.max(0, days)} days; renew it`);
  }
}
