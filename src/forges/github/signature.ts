import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { MayflyError } from "../../domain/errors.ts";
import type { ForgeRequest } from "../forge.ts";

const header = "x-hub-signature-256";

/**
 * Throws `unauthenticated` unless the request bears `sha256=` and the HMAC-SHA256 of its raw bytes
 * under the secret, in hexadecimal (docs.github.com, "Validating webhook deliveries"). Digests of
 * one length are compared, in constant time.
 */
export function checkSignature({ headers, body }: ForgeRequest, secret: string): void {
  const good = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
  if (timingSafeEqual(digest(headers[header] ?? ""), digest(good))) return;
  throw new MayflyError("unauthenticated", "the signature is missing or wrong", {
    where: "X-Hub-Signature-256",
    hint: "The webhook's secret at GitHub and the forge's `secret` must be the same.",
  });
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
