import { MayflyError } from "../../domain/errors.ts";
import { quote } from "../../domain/words.ts";
import { isBodyHmac } from "../body-hmac.ts";
import type { ForgeRequest } from "../forge.ts";
import { eventBody, type JobAnswer } from "./answers.ts";

/** What an event tells: a job, or why none. */
export type GiteaEvent =
  { readonly job: JobAnswer; readonly note: "" } | { readonly job: null; readonly note: string };

/**
 * Checks an event's signature over its raw bytes and reads it. Throws `unauthenticated` or
 * `invalid`. The headers are those of `services/webhook/deliver.go`; they are not signed, so nothing
 * but the signature is trusted of them.
 */
export function readEvent(
  { headers, body }: ForgeRequest,
  forge: string,
  secret: string | null,
): GiteaEvent {
  if (secret === null) {
    throw new MayflyError("unauthenticated", `forge ${forge} takes no events`, {
      hint: "Give it a `secret`, the same as the webhook's; until then jobs are asked for.",
    });
  }
  if (!isBodyHmac(headers["x-gitea-signature"], body, secret)) {
    throw new MayflyError("unauthenticated", "the signature is missing or wrong", {
      where: "X-Gitea-Signature",
      hint: "The webhook's secret at the server and the forge's `secret` here have to be the same.",
    });
  }
  const kind = headers["x-gitea-event"] ?? "";
  if (kind !== "workflow_job") {
    return { job: null, note: `${quote(kind)} is an event of no job; only workflow_job is` };
  }
  const parsed = eventBody.safeParse(json(body));
  if (parsed.success) return { job: parsed.data.workflow_job, note: "" };
  const [issue] = parsed.error.issues;
  throw new MayflyError("invalid", "the event is not one of Gitea's workflow_job", {
    where: issue?.path.join(".") || "body",
    hint: "The webhook's content type must be application/json, and the server 1.25 or newer.",
  });
}

function json(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString("utf8")) as unknown;
  } catch {
    return null;
  }
}
