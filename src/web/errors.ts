import { randomBytes } from "node:crypto";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { MayflyError, type ErrorCode } from "../domain/errors.ts";
import type { Log } from "../fleet/log.ts";

/** An error as the API says it: problem details of RFC 9457, with our code, place and advice. */
export interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: ContentfulStatusCode;
  readonly code: ErrorCode | "internal";
  readonly detail: string;
  /** The field, header or parameter at fault. */
  readonly where?: string;
  /** What to do next. */
  readonly hint?: string;
  /** Stands beside the full error in the log. */
  readonly reference?: string;
}

const statuses: Record<ErrorCode, readonly [ContentfulStatusCode, title: string]> = {
  invalid: [400, "Invalid request"],
  unauthenticated: [401, "Not authenticated"],
  forbidden: [403, "Forbidden"],
  not_found: [404, "Not found"],
  conflict: [409, "Conflict"],
  too_large: [413, "Too large"],
  too_many: [429, "Too many requests"],
  unavailable: [503, "Unavailable"],
};

/** The one place where errors become answers. What is not ours is told to the log alone. */
export function toProblem(error: unknown, log: Log): Problem {
  const known = asMayflyError(error);
  if (known === null) return internalProblem(error, log);
  const [status, title] = statuses[known.code];
  return {
    type: "about:blank",
    title,
    status,
    code: known.code,
    detail: known.message,
    ...(known.where === undefined ? {} : { where: known.where }),
    ...(known.hint === undefined ? {} : { hint: known.hint }),
  };
}

/** The answer for machines; pages have their own (`pages/problem.ts`). */
export function problemResponse(problem: Problem): Response {
  const headers: Record<string, string> = { "content-type": "application/problem+json" };
  if (problem.status === 401) headers["www-authenticate"] = 'Bearer realm="mayfly"';
  if (problem.status === 429 || problem.status === 503) headers["retry-after"] = "5";
  return new Response(JSON.stringify(problem), { status: problem.status, headers });
}

function internalProblem(error: unknown, log: Log): Problem {
  const reference = randomBytes(6).toString("hex");
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
  log.warn({ reference, error: detail }, "internal error");
  return {
    type: "about:blank",
    title: "Internal error",
    status: 500,
    code: "internal",
    detail: "internal error",
    hint: `The log has the details under the reference ${reference}.`,
    reference,
  };
}

/** Hono's own refusals (malformed JSON, a wrong media type) speak our codes too. */
function asMayflyError(error: unknown): MayflyError | null {
  if (error instanceof MayflyError) return error;
  if (!(error instanceof HTTPException)) return null;
  switch (error.status) {
    case 413:
      return new MayflyError("too_large", "the request is too large");
    case 415:
      return new MayflyError("invalid", "the media type is not one that is understood here", {
        where: "content-type",
      });
    default:
      return error.status < 500 ? new MayflyError("invalid", error.message) : null;
  }
}
