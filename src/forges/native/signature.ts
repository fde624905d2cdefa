import { createHmac, timingSafeEqual } from "node:crypto";
import { MayflyError } from "../../domain/errors.ts";
import type { ForgeRequest } from "../forge.ts";

const signatureHeader = "x-mayfly-signature-256";

/**
 * Throws `unauthenticated` unless the request bears `sha256=` and the HMAC-SHA256 of its raw body
 * under the secret, in hexadecimal: the form GitHub uses too, so that its tools serve.
 */
export function checkSignature({ headers, body }: ForgeRequest, secret: string): void {
  const [, given] = /^sha256=([0-9a-f]{64})$/i.exec(headers[signatureHeader] ?? "") ?? [];
  const good = createHmac("sha256", secret).update(body).digest("hex");
  if (given !== undefined && timingSafeEqual(Buffer.from(given.toLowerCase()), Buffer.from(good)))
    return;
  throw new MayflyError("unauthenticated", "the signature is missing or wrong", {
    where: "X-Mayfly-Signature-256",
    hint: "It is `sha256=` and the HMAC-SHA256 of the raw body under the forge's secret, in hex.",
  });
}
