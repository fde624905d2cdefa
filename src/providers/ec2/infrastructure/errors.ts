import { MayflyError } from "../../../domain/errors.ts";
import { clip } from "../../../domain/words.ts";

/** A call of AWS's SDK, a failure of it in words for a person: what was asked, what AWS says. */
export async function explained<T>(action: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw inWords(action, error);
  }
}

const lacking = /AccessDenied|UnauthorizedOperation|NotAuthorized/;
const stranger =
  /InvalidClientTokenId|UnrecognizedClient|AuthFailure|SignatureDoesNotMatch|ExpiredToken/;

function inWords(action: string, error: unknown): MayflyError {
  if (error instanceof MayflyError) return error;
  const { name = "Error", message = "" } = error as Partial<Error>;
  const said = `${action}: ${clip(message || name, 500)}`;
  if (name === "CredentialsProviderError" || name === "TokenProviderError") {
    const hint = "Sign in as AWS's tools do (`aws sso login`, AWS_PROFILE), then try again.";
    return new MayflyError("unauthenticated", "no credentials of AWS's were found", { hint });
  }
  if (stranger.test(name)) {
    const hint = "AWS does not take these credentials: check them, and this host's clock.";
    return new MayflyError("unauthenticated", said, { hint });
  }
  if (lacking.test(name)) {
    const hint = "Whoever runs this needs an administrator's rights in the account.";
    return new MayflyError("forbidden", said, { hint });
  }
  const { $fault } = error as { $fault?: "client" | "server" };
  // The service answered, and said no.
  if ($fault === "client") {
    const advice = adviceFor(message);
    return new MayflyError("invalid", said, advice === null ? {} : { hint: advice });
  }
  const hint = "Check the region and the way to AWS, then try again: nothing is done twice.";
  return new MayflyError("unavailable", said, { hint });
}

/** What helps against something that AWS said; null: nothing that we know. */
export function adviceFor(reason: string): string | null {
  return hints.find(([pattern]) => pattern.test(reason))?.[1] ?? null;
}

/** What people meet, and what helps. */
const hints: readonly (readonly [RegExp, string])[] = [
  [
    /ReservedConcurrentExecutions|UnreservedConcurrentExecution/i,
    "This account may run too few functions at once to set some aside: give --front 0, then its own limit bounds the front.",
  ],
  [
    /cannot select nonexistent value|Fn::Select/i,
    "The region has fewer zones for this account: give --zones 2.",
  ],
  [
    /must (delete|detach|remove) .* first|attached to entities|DeleteConflict/i,
    "Something was added to it beside the stack (an access key, an attachment): take that away, then run `mayfly aws down` again.",
  ],
  [
    /has dependencies|DependencyViolation/i,
    "Something else still uses it; take that away, then run `mayfly aws down` again.",
  ],
  [
    /not authorized|AccessDenied/i,
    "Whoever runs this needs an administrator's rights in the account.",
  ],
  [/limit|quota|maximum number/i, "The account's limit is reached: Service Quotas raises it."],
];
