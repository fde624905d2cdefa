import { ProviderError } from "../../domain/errors.ts";
import { qemuMend } from "./run.ts";

/** What a keeper said that could not start its QEMU. */
export function failureOf(words: string): ProviderError {
  if (/cannot allocate memory|cannot set up guest memory/i.test(words)) {
    return new ProviderError("no_capacity", `QEMU does not run: ${words}`);
  }
  const mend = /failed to execute|No such file/.test(words) ? `; ${qemuMend}` : "";
  return new ProviderError("invalid", `QEMU does not run: ${words}${mend}`);
}
