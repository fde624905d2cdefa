/**
 * The closed set of errors Mayfly raises on purpose. Everything else is a bug: "internal" to the
 * user, full detail to the operator. HTTP statuses and exit codes are mapped from these codes in
 * one place each (`web/errors.ts`, `cli/exit.ts`).
 */
export type ErrorCode =
  | "invalid"
  | "unauthenticated"
  | "forbidden"
  | "not_found"
  | "conflict"
  | "too_large"
  | "too_many"
  | "unavailable";

export class MayflyError extends Error {
  readonly code: ErrorCode;
  /** The place at fault: `mayfly.yaml:12:3`, a field such as `labels[2]`, a header's name. */
  readonly where: string | undefined;
  /** What to do next, as one sentence. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, more: { where?: string; hint?: string } = {}) {
    super(message);
    this.name = "MayflyError";
    this.code = code;
    this.where = more.where;
    this.hint = more.hint;
  }
}

/**
 * Why a provider refused, in the words the fleet decides by:
 * - `no_capacity` nothing to be had now; try again later or elsewhere
 * - `quota` an account's or host's limit is reached; waits and tells the operator
 * - `throttled` too many calls; the same call again after a pause
 * - `invalid` the request can never work as it is (a bug or a wrong configuration)
 * - `gone` no such machine: a success when destroying
 * - `unreachable` no answer, or not one we understand; the call may have taken effect
 */
export type ProviderFailure =
  "no_capacity" | "quota" | "throttled" | "invalid" | "gone" | "unreachable";

export class ProviderError extends Error {
  readonly kind: ProviderFailure;
  readonly retryAfterMs: number | undefined;

  constructor(kind: ProviderFailure, message: string, retryAfterMs?: number) {
    super(message);
    this.name = "ProviderError";
    this.kind = kind;
    this.retryAfterMs = retryAfterMs;
  }
}
