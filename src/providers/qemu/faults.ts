import { ProviderError } from "../../domain/errors.ts";
import { untilAborted } from "../local.ts";
import { qemuMend } from "./run.ts";

/*
 * What goes wrong, as the fleet is told it.
 */

const perlMend = "install it: apt-get install perl";

/** What a keeper said that could not start its QEMU. */
export function failureOf(words: string): ProviderError {
  if (/cannot allocate memory|cannot set up guest memory/i.test(words)) {
    return new ProviderError("no_capacity", `QEMU does not run: ${words}`);
  }
  const mend = /failed to execute|No such file/.test(words) ? `; ${qemuMend}` : "";
  return new ProviderError("invalid", `QEMU does not run: ${words}${mend}`);
}

/** Does a provider's work; it is given up, and may yet take effect, when `signal` aborts. */
export async function attempt<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  if (signal.aborted) throw new ProviderError("unreachable", "the call was given up");
  try {
    return await untilAborted(signal, work());
  } catch (error) {
    throw asProviderError(error, signal);
  }
}

function asProviderError(error: unknown, signal: AbortSignal): ProviderError {
  if (error instanceof ProviderError) return error;
  const { code, message, syscall } = error as NodeJS.ErrnoException;
  if (signal.aborted) return new ProviderError("unreachable", "given up; it may have taken effect");
  if (code === "ENOSPC" || code === "EDQUOT" || code === "EMFILE") {
    return new ProviderError("quota", `the host is full: ${message}`);
  }
  if (code === "EAGAIN" || code === "ENOMEM") return new ProviderError("no_capacity", message);
  if (code === "ENOENT" && syscall?.startsWith("spawn")) {
    return new ProviderError("invalid", `perl is not installed; ${perlMend}`);
  }
  return new ProviderError("unreachable", message);
}

/** For a `catch` of what need not be there. */
export function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}
