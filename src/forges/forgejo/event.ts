import { MayflyError } from "../../domain/errors.ts";
import { isBodyHmac } from "../body-hmac.ts";
import type { ForgeRequest } from "../forge.ts";
import { runEventBody } from "./answers.ts";

/** What an event tells: that a run is over, or only that something happened. */
export type ForgejoEvent =
  | { readonly kind: "run"; readonly repository: string; readonly run: number }
  | { readonly kind: "hint" };

/**
 * Checks an event's signature over its raw bytes and reads it. Throws `unauthenticated`. The headers
 * are those of `services/webhook/shared/payloader.go`.
 */
export function readEvent(
  { headers, body }: ForgeRequest,
  forge: string,
  secret: string | null,
): ForgejoEvent {
  if (secret === null) {
    throw new MayflyError("unauthenticated", `forge ${forge} takes no events`, {
      hint: "Give it a `secret`, the same as the webhook's; until then jobs are asked for.",
    });
  }
  if (!isBodyHmac(headers["x-forgejo-signature"], body, secret)) {
    throw new MayflyError("unauthenticated", "the signature is missing or wrong", {
      where: "X-Forgejo-Signature",
      hint: "The webhook's secret at the server and the forge's `secret` here have to be the same.",
    });
  }
  const parsed = runEventBody.safeParse(json(body));
  if (!parsed.success) return { kind: "hint" };
  const { id, repository } = parsed.data.run;
  return { kind: "run", repository: repository.full_name, run: id };
}

function json(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString("utf8")) as unknown;
  } catch {
    return null;
  }
}
