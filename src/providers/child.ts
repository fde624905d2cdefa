import { spawn } from "node:child_process";
import { ProviderError } from "../domain/errors.ts";
import { clip } from "../domain/words.ts";

export interface Finished {
  /** 128 and the signal's number are not made up here: a child that a signal ended has null. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ChildOptions {
  readonly signal: AbortSignal;
  /** All of the child's environment. */
  readonly environment: NodeJS.ProcessEnv;
  /** What to do when the tool is not there, as one sentence. */
  readonly mend: string;
  /** Called with each whole line of stderr. */
  readonly onLine?: (line: string) => void;
  /** Told when the child is really over, which is later than the call when that was aborted. */
  readonly onOver?: () => void;
}

const outputBytesMax = 16 * 1024 * 1024;
/** After an abort the tool gets this long to tidy up before it is killed outright. */
const patienceMs = 10_000;

/**
 * Runs a tool to its end and gives what it wrote. Aborting asks it to end (SIGTERM, then SIGKILL)
 * and throws `unreachable` at once, since it may have done its work by then; so does output beyond
 * 16 MiB. A tool that is not there is `invalid`. It runs in a session of its own, so that a Ctrl-C
 * at our terminal does not tear it from its work.
 */
export function runTool(
  tool: string,
  args: readonly string[],
  options: ChildOptions,
): Promise<Finished> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new ProviderError("unreachable", why));
    if (signal.aborted) {
      options.onOver?.();
      return fail(`${tool} was not run: the call was given up`);
    }
    const child = spawn(tool, args, {
      env: options.environment,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let kill: NodeJS.Timeout | undefined;
    const stop = (why: string): void => {
      child.kill("SIGTERM");
      kill ??= setTimeout(() => child.kill("SIGKILL"), patienceMs);
      fail(why);
    };
    const aborted = (): void => stop(`${tool} was interrupted; it may have done its work`);
    signal.addEventListener("abort", aborted, { once: true });
    const collect = (stream: NodeJS.ReadableStream, onLine?: (line: string) => void) => {
      const text = { whole: "", line: "" };
      stream.setEncoding("utf8").on("data", (chunk: string) => {
        if (text.whole.length + chunk.length > outputBytesMax) stop(`${tool} wrote too much`);
        else text.whole += chunk;
        if (onLine === undefined) return;
        const lines = (text.line + chunk).split("\n");
        text.line = clip(lines.pop() ?? "", 4_096);
        for (const line of lines) onLine(line);
      });
      return text;
    };
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr, options.onLine);
    const over = (): void => {
      clearTimeout(kill);
      signal.removeEventListener("abort", aborted);
      options.onOver?.();
    };
    child.on("error", (error: NodeJS.ErrnoException) => {
      over();
      if (error.code !== "ENOENT") return fail(`${tool} cannot be run: ${error.message}`);
      reject(new ProviderError("invalid", `${tool} is not installed: ${options.mend}`));
    });
    child.on("close", (code) => {
      over();
      resolve({ code, stdout: stdout.whole, stderr: stderr.whole });
    });
  });
}

/** The last line a tool wrote on stderr that says something, for an error's message. */
export function lastWords(stderr: string): string {
  const lines = stderr.split("\n").map((line) => line.trim());
  return clip(lines.findLast((line) => line !== "") ?? "it said nothing", 300);
}
