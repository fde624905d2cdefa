import { spawn, type ChildProcess } from "node:child_process";
import { ProviderError } from "../domain/errors.ts";
import { clip } from "../domain/words.ts";

export interface Finished {
  /** Null when a signal ended it. */
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
  /** Where it runs; podman's monitor leaves a file there when a machine runs out of memory. */
  readonly folder?: string;
  /** Signals go to all that the tool started, too; for tools that do not pass them on. */
  readonly wholeGroup?: boolean;
  /** What it writes to stdout is thrown away. */
  readonly isMute?: boolean;
}

const outputBytesMax = 16 * 1024 * 1024;
/** After an abort the tool gets this long to tidy up before it is killed outright. */
const patienceMs = 10_000;

/**
 * Runs a tool to its end and gives what it wrote. Aborting asks the tool to end (SIGTERM, then
 * SIGKILL) and throws `unreachable` once it has, since it may have done its work by then; so does
 * output beyond 16 MiB. A tool that is not there is `invalid`. It runs in a session of its own, so
 * that a Ctrl-C at our terminal does not tear it from its work.
 */
export function runTool(
  tool: string,
  args: readonly string[],
  { signal, environment, mend, onLine, folder, wholeGroup = false, isMute = false }: ChildOptions,
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new ProviderError("unreachable", `${tool} was not run`));
    const child = spawn(tool, args, {
      env: environment,
      cwd: folder,
      detached: true,
      stdio: ["ignore", isMute ? "ignore" : "pipe", "pipe"],
    });
    let stopped: string | null = null;
    let kill: NodeJS.Timeout | undefined;
    const send = (name: NodeJS.Signals): void => {
      if (child.pid !== undefined) sendSignal(wholeGroup ? -child.pid : child.pid, name);
    };
    const stop = (why: string): void => {
      if (stopped !== null) return;
      stopped = why;
      send("SIGTERM");
      kill = setTimeout(send, patienceMs, "SIGKILL");
    };
    const aborted = (): void => stop("was interrupted; it may have done its work");
    signal.addEventListener("abort", aborted, { once: true });
    const tooMuch = (): void => stop("wrote more than 16 MiB");
    const stdout = child.stdout === null ? [] : collect(child.stdout, tooMuch);
    const stderr = child.stderr === null ? [] : collect(child.stderr, tooMuch, onLine);
    const over = (): void => {
      clearTimeout(kill);
      signal.removeEventListener("abort", aborted);
    };
    child.on("error", (error: NodeJS.ErrnoException) => {
      over();
      const missing = error.code === "ENOENT";
      const why = missing ? `is not installed: ${mend}` : `cannot be run: ${error.message}`;
      reject(new ProviderError(missing ? "invalid" : "unreachable", `${tool} ${why}`));
    });
    child.on("close", (code) => {
      over();
      if (stopped !== null) reject(new ProviderError("unreachable", `${tool} ${stopped}`));
      else resolve({ code, stdout: stdout.join(""), stderr: stderr.join("") });
    });
  });
}

function sendSignal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended by itself meanwhile.
  }
}

/** Gathers what a child writes, up to a bound. */
function collect(
  stream: NodeJS.ReadableStream,
  tooMuch: () => void,
  onLine?: (line: string) => void,
): string[] {
  const chunks: string[] = [];
  let length = 0;
  let line = "";
  stream.setEncoding("utf8").on("data", (chunk: string) => {
    length += chunk.length;
    if (length > outputBytesMax) return tooMuch();
    chunks.push(chunk);
    if (onLine === undefined) return;
    const lines = (line + chunk).split("\n");
    line = clip(lines.pop() ?? "", 4_096);
    lines.forEach(onLine);
  });
  return chunks;
}

/** The first line a child writes, or "" when it ends without one. It goes on without us. */
export function firstLine(child: ChildProcess, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const finish = (settle: () => void): void => {
      signal.removeEventListener("abort", aborted);
      child.stdout?.destroy();
      child.unref();
      settle();
    };
    const aborted = (): void => finish(() => reject(signal.reason));
    signal.addEventListener("abort", aborted, { once: true });
    child.on("error", (error) => finish(() => reject(error)));
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      const line = /^(.*)\n/.exec(text)?.[1];
      if (line !== undefined) finish(() => resolve(line));
    });
    child.stdout?.on("end", () => finish(() => resolve("")));
    if (signal.aborted) aborted();
  });
}

/** The last line a tool wrote on stderr that says something, for an error's message. */
export function lastWords(stderr: string): string {
  const lines = stderr.split("\n").map((line) => line.trim());
  return clip(lines.findLast((line) => line !== "") ?? "it said nothing", 300);
}

/** What tools need of our environment: where things are, and nothing secret. */
export function toolEnvironment(): NodeJS.ProcessEnv {
  const kept = ["HOME", "USER", "TMPDIR", "DBUS_SESSION_BUS_ADDRESS", "REGISTRY_AUTH_FILE"];
  const proxies = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"];
  const prefixes = /^(XDG_|CONTAINERS_STORAGE_CONF$|CONTAINERS_REGISTRIES_CONF$|SSL_CERT_)/;
  const ours = Object.entries(process.env).filter(
    ([name]) => kept.includes(name) || proxies.includes(name) || prefixes.test(name),
  );
  const path = process.env["PATH"] ?? "/usr/bin:/bin";
  // A user's PATH lacks the places where Debian keeps runc, iptables and mkfs.
  return { ...Object.fromEntries(ours), PATH: `${path}:/usr/sbin:/sbin`, LC_ALL: "C.UTF-8" };
}
