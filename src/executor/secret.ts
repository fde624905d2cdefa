import { createHash, timingSafeEqual } from "node:crypto";

/** Over digests, so that neither length nor first difference shows in the time it takes. */
export function isSame(a: string, b: string): boolean {
  return timingSafeEqual(digest(a), digest(b));
}

function digest(content: string): Buffer {
  return createHash("sha256").update(content).digest();
}
