import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/** Whether `given` is the HMAC-SHA256 of these very bytes under the secret, in hexadecimal. */
export function isBodyHmac(given: string | undefined, body: Uint8Array, secret: string): boolean {
  const good = createHmac("sha256", secret).update(body).digest("hex");
  return timingSafeEqual(digest((given ?? "").toLowerCase()), digest(good));
}

/** Equal lengths, whatever was given: a comparison of digests takes the same time for all. */
function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
