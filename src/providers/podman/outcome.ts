import { ProviderError, type ProviderFailure } from "../../domain/errors.ts";
import { lastWords } from "../child.ts";

/** Podman's words, and what they mean for the fleet. The first that fits wins. */
const meanings: readonly (readonly [RegExp, ProviderFailure])[] = [
  [/no space left on device|disk quota exceeded/i, "quota"],
  [/no free locks|exceeded num_locks|allocation failed/i, "quota"],
  [/cannot allocate memory|resource temporarily unavailable|too many open files/i, "no_capacity"],
  [/toomanyrequests|rate limit/i, "throttled"],
  [/image not known|no such image|unable to find image|manifest unknown/i, "invalid"],
  [/invalid reference format|repository name must be lowercase|short-name/i, "invalid"],
  [/command that was not found|executable file .* not found|attempted to invoke/i, "invalid"],
  [/exec format error|exec: .*permission denied/i, "invalid"],
  [/unknown flag|unknown shorthand|invalid argument|statfs .*no such file/i, "invalid"],
];

/** The `ProviderError` for a call of podman that failed. What it does not know is `unreachable`. */
export function failureOf(what: string, stderr: string): ProviderError {
  const [, kind = "unreachable"] = meanings.find(([words]) => words.test(stderr)) ?? [];
  return new ProviderError(kind, `${what}: ${lastWords(stderr).replace(/^Error: /, "")}`);
}

/** True when `run` failed because there is a container (or the making of one) of this name. */
export function isNameInUse(stderr: string): boolean {
  return /name .* is already in use|name is in use|container ID file found/i.test(stderr);
}
