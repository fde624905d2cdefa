import { statfs } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { ProviderError } from "../domain/errors.ts";
import type { Architecture, Size } from "../domain/size.ts";

/** The architecture of this host as machines on it have it; null when we have no name for it. */
export function hostArchitecture(): Architecture | null {
  return process.arch === "x64" || process.arch === "arm64" ? process.arch : null;
}

/** All of this host: its cores, its memory, and the whole of the file system that holds `folder`. */
export async function hostSize(folder: string): Promise<Size> {
  const { blocks, bsize } = await statfs(folder);
  return {
    cpu: availableParallelism(),
    memoryMb: Math.floor(totalmem() / 2 ** 20),
    diskGb: Math.max(1, Math.floor((blocks * bsize) / 2 ** 30)),
    gpu: 0,
    architecture: hostArchitecture() ?? "x64",
  };
}

/** What `promise` gives, or `unreachable` as soon as `signal` aborts; the work itself goes on. */
export async function untilAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  const aborted = Promise.withResolvers<never>();
  const giveUp = (): void => {
    aborted.reject(new ProviderError("unreachable", "given up; it may have taken effect"));
  };
  if (signal.aborted) giveUp();
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** Work on one name at a time, in the order asked for; different names do not wait for each other. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  async take<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(name) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.#last.set(name, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(name) === mine) this.#last.delete(name);
    }
  }
}

/** How to get what overseers of machines run on. */
export const perlMend = "install it: apt-get install perl";

/** Does a provider's work; it is given up, and may yet take effect, when `signal` aborts. */
export async function attempt<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  refuseAborted(signal);
  try {
    return await untilAborted(signal, work());
  } catch (error) {
    throw asProviderError(error, signal);
  }
}

export function refuseAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new ProviderError("unreachable", "the call was given up");
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
  return new ProviderError("unreachable", message ?? String(error));
}

/** For a `catch` of what need not be there. */
export function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}

/** What tools of ours need of our environment: where programs are, and nothing secret. */
export function bareEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };
}
