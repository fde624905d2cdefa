import { ProviderError, type ProviderFailure } from "../../domain/errors.ts";
import { clip } from "../../domain/words.ts";

/**
 * What to do about an answer of EC2's, beside its kind:
 * - `elsewhere` the next zone or type, then on demand
 * - `on-demand` no spot is to be had for this account at all
 * - `again` the same call after a pause
 * - `other-token` that token's machine is over, the name may have another
 * - `adopt` that token made a machine already, from other parameters
 */
export type Remedy = "elsewhere" | "on-demand" | "again" | "other-token" | "adopt" | "none";

export interface Verdict {
  readonly kind: ProviderFailure;
  readonly remedy: Remedy;
}

const capacity: Verdict = { kind: "no_capacity", remedy: "elsewhere" };
const noSpot: Verdict = { kind: "quota", remedy: "on-demand" };
const throttled: Verdict = { kind: "throttled", remedy: "again" };
const quota: Verdict = { kind: "quota", remedy: "none" };
const invalid: Verdict = { kind: "invalid", remedy: "none" };
const gone: Verdict = { kind: "gone", remedy: "none" };
const unreachable: Verdict = { kind: "unreachable", remedy: "none" };

/** EC2's and SSM's error codes, by "Error codes for the Amazon EC2 API"; all that is not here follows by its status. */
const verdicts: Readonly<Record<string, Verdict>> = {
  InsufficientInstanceCapacity: capacity,
  InsufficientHostCapacity: capacity,
  InsufficientCapacityOnHost: capacity,
  InsufficientCapacity: capacity,
  InsufficientFreeAddressesInSubnet: capacity,
  UnfulfillableCapacity: capacity,
  // This type is not offered in this zone.
  Unsupported: capacity,
  MaxSpotInstanceCountExceeded: noSpot,
  MaxSpotFleetRequestCountExceeded: noSpot,
  SpotMaxPriceTooLow: noSpot,
  RequestLimitExceeded: throttled,
  EC2ThrottledException: throttled,
  Throttling: throttled,
  ThrottlingException: throttled,
  TooManyUpdates: throttled,
  InstanceLimitExceeded: quota,
  VcpuLimitExceeded: quota,
  ResourceLimitExceeded: quota,
  ResourceCountExceeded: quota,
  TargetCapacityLimitExceededException: quota,
  VolumeLimitExceeded: quota,
  MaxIOPSLimitExceeded: quota,
  AddressLimitExceeded: quota,
  ParameterLimitExceeded: quota,
  IdempotentInstanceTerminated: { kind: "invalid", remedy: "other-token" },
  IdempotentParameterMismatch: { kind: "unreachable", remedy: "adopt" },
  "InvalidInstanceID.NotFound": gone,
  ParameterNotFound: gone,
  // A clock that is wrong, or credentials that ran out: these come right by themselves.
  RequestExpired: unreachable,
  ExpiredToken: unreachable,
  RequestTimeout: unreachable,
  InternalError: unreachable,
  InternalFailure: unreachable,
  InternalServerError: unreachable,
  ServiceUnavailable: unreachable,
  Unavailable: unreachable,
};

/** An answer that says no, with what to do about it. */
export class Ec2Error extends ProviderError {
  readonly code: string;
  readonly remedy: Remedy;

  constructor(verdict: Verdict, code: string, message: string) {
    super(verdict.kind, message);
    this.code = code;
    this.remedy = verdict.remedy;
  }
}

/** What an error code of EC2's means; `status` is that of HTTP, for codes we do not know. */
function verdictOf(code: string, status: number | undefined): Verdict {
  const known = Object.hasOwn(verdicts, code) ? verdicts[code] : undefined;
  if (known !== undefined) return known;
  if (status === 429) return throttled;
  return status !== undefined && status >= 400 && status < 500 ? invalid : unreachable;
}

/** Any failure of a call of AWS's SDK in our words: one that got no answer is `unreachable`. */
export function asEc2Error(action: string, error: unknown): ProviderError {
  if (error instanceof ProviderError) return error;
  const { name, message, $metadata } = error as {
    name?: string;
    message?: string;
    $metadata?: { httpStatusCode?: number };
  };
  const code = name ?? "Error";
  // The SDK has no credentials or no region: nothing was sent, and a person has to mend it.
  const isOurs = code === "CredentialsProviderError" || code === "TokenProviderError";
  const verdict = isOurs ? invalid : verdictOf(code, $metadata?.httpStatusCode);
  return new Ec2Error(verdict, code, `${action}: ${code}: ${clip(message ?? "", 300)}`);
}
