import { MayflyError, type ErrorCode } from "../../domain/errors.ts";
import type { Headers } from "./quota.ts";

/** An answer that is no success, by whichever of GitHub's services. */
export interface Refused {
  readonly status: number;
  /** GitHub's own words. */
  readonly message: string;
  readonly headers: Headers;
}

type Known = readonly [words: RegExp, code: ErrorCode, sentence: string, hint: string];

/** What GitHub is known to say, and what that means to whoever set Mayfly up. */
const known: readonly Known[] = [
  [
    /repository level self-hosted runners are disabled/i,
    "forbidden",
    "the organisation's owners let no repository have runners of its own",
    "Register runners for the organisation (url: https://github.com/ORG), or have the owners allow them for this repository: Settings, Actions, Runners.",
  ],
  [
    /actions (is|has been) disabled|actions are disabled/i,
    "forbidden",
    "GitHub Actions is switched off for this repository",
    "Switch it on under the repository's Settings, Actions, General.",
  ],
  [
    /IP address is not permitted|IP allow list/i,
    "forbidden",
    "the organisation's list of allowed addresses does not have the one Mayfly calls from",
    "Add Mayfly's address under the organisation's Settings, Authentication security, IP allow list.",
  ],
  [
    /installation has been suspended/i,
    "forbidden",
    "the App's installation is suspended",
    "Somebody with admin rights lifts that under Settings, GitHub Apps, Configure.",
  ],
  [
    /SAML enforcement|SAML SSO/i,
    "forbidden",
    "the organisation wants the token authorised for its single sign-on",
    "Authorise it: Settings, Developer settings, the token, Configure SSO.",
  ],
  [
    /not accessible by (integration|personal access token)|must have admin rights|requires? .*(scope|permission)/i,
    "forbidden",
    "the App or token lacks a permission for this",
    "An organisation's runners need `Self-hosted runners: write`, a repository's `Administration: write`, polls `Actions: read`. An App's new permissions count once the organisation has accepted them.",
  ],
  [
    /reached (the )?max(imum)? (limit|number) of .*runners|runner limit/i,
    "too_many",
    "no more runners fit into the group or organisation",
    "GitHub lets a group have 10,000; remove those that are offline.",
  ],
  [
    /expiration time|issued at|'exp'|'iat'/i,
    "unauthenticated",
    "GitHub refuses the App's key by its times",
    "Set this machine's clock: it must not be a minute off.",
  ],
  [
    /json web token could not be decoded|integration not found|integration must generate a public key/i,
    "unauthenticated",
    "GitHub does not know the App by this id and key",
    "`app` is the App's id or client id from its settings page, `key` a private key made there.",
  ],
];

const byStatus: Readonly<Record<number, readonly [ErrorCode, string, string | undefined]>> = {
  401: [
    "unauthenticated",
    "GitHub does not accept the credential",
    "The token may have expired or been revoked, or the App's key removed.",
  ],
  403: ["forbidden", "GitHub refuses this", undefined],
  404: [
    "not_found",
    "GitHub shows nothing there to this credential",
    "Check the address, and that the App is installed there or the token may see it.",
  ],
  409: ["conflict", "GitHub has something of that name already", undefined],
  422: ["invalid", "GitHub cannot do this", undefined],
};

/** A limit was reached: which one, `Quota` knows by the headers. */
export function isLimit({ status, message, headers }: Refused): boolean {
  if (status === 429) return true;
  if (status !== 403) return false;
  return (
    headers["x-ratelimit-remaining"] === "0" ||
    headers["retry-after"] !== undefined ||
    /rate limit|abuse detection/i.test(message)
  );
}

/** GitHub's refusal as one plain sentence. `what`: what was tried, as in `listing runners`. */
export function explain(what: string, refused: Refused): MayflyError {
  if (isLimit(refused)) {
    return new MayflyError("too_many", `${what}: GitHub takes no more requests for now`, {
      hint: "It goes on by itself. A GitHub App has a larger quota than a token, of its own.",
    });
  }
  const words = plain(refused.message);
  const match = known.find(([pattern]) => pattern.test(refused.message));
  if (match !== undefined && refused.status >= 400 && refused.status < 500) {
    const [, code, sentence, hint] = match;
    return new MayflyError(code, `${what}: ${sentence}`, { hint });
  }
  const [code, sentence, hint] = byStatus[refused.status] ?? [
    "unavailable",
    `GitHub answers with status ${refused.status}`,
    undefined,
  ];
  const told = words === "" ? sentence : `${sentence}: ${words}`;
  return new MayflyError(code, `${what}: ${told}`, hint === undefined ? {} : { hint });
}

/** No answer, or none that means anything: whether it took effect is open. */
export function unreachable(what: string, host: string, why: string): MayflyError {
  return new MayflyError("unavailable", `${what}: ${host} ${plain(why)}`, {
    hint: "It is tried again. See githubstatus.com, or whether this machine reaches it.",
  });
}

/** Somebody else's words on one short line. */
function plain(text: string): string {
  const line = text
    .replace(/ - https?:\/\/\S+$/, "")
    .replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]+/gu, " ")
    .trim();
  return line.length > 200 ? `${line.slice(0, 199)}…` : line;
}
