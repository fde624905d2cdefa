import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/**
 * The claims and sessions of guests, derived from one secret of the installation and stored
 * nowhere: minting a program again after a crash hands out the same claim. A token is the runner's
 * name, a dot, and an HMAC-SHA256.
 */
export class GuestTokens {
  readonly #secret: string;

  constructor(secret: string) {
    this.#secret = secret;
  }

  /** The one-time claim of a runner's guest. */
  claim(runner: string): string {
    return `${runner}.${this.#mac(`claim:${runner}`)}`;
  }

  /** The session of the guest that redeemed the claim under this digest of its nonce. */
  session(runner: string, digest: string): string {
    return `${runner}.${this.#mac(`session:${runner}:${digest}`)}`;
  }

  #mac(text: string): string {
    return createHmac("sha256", this.#secret).update(text).digest("hex");
  }
}

/** The runner that a token is for, by its own account; null when it is no token. */
export function runnerOf(token: string): string | null {
  const [, name] = /^([a-z0-9-]{1,63})\.[0-9a-f]{64}$/.exec(token) ?? [];
  return name ?? null;
}

export function nonceDigest(nonce: string): string {
  return createHash("sha256").update(nonce).digest("hex");
}

/** Over digests, so that neither length nor first difference shows in the time it takes. */
export function sameToken(a: string, b: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
