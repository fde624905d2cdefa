import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { ProviderError } from "../../domain/errors.ts";
import { clip, quote } from "../../domain/words.ts";
import { lineBytesMax, replySchema } from "./protocol.ts";

/** Requests under way at once. */
const pendingMax = 256;
/** How long the program may take to end by itself once its input has ended. */
const endMs = 5_000;
/** How long what it wrote last may come after its end, or its end after that of its input. */
const lastWordsMs = 500;

export interface SessionOptions {
  readonly command: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  readonly folder: string;
  readonly onLog: (line: string) => void;
  /** Called once, with the reason, when the program is over or of no use any more. */
  readonly onOver: (why: string) => void;
}

interface Pending {
  resolve(result: unknown): void;
  reject(error: ProviderError): void;
}

/** One life of the program: requests go in, answers come out in any order. */
export class Session {
  readonly #child: ChildProcess;
  readonly #options: SessionOptions;
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  #over: string | null = null;
  /** What it wrote last on stderr while it has answered nothing: most likely why. */
  #firstWords: string | null = "";

  constructor(options: SessionOptions) {
    this.#options = options;
    const [program = "", ...args] = options.command;
    // A session of its own: a Ctrl-C at our terminal is for us to answer.
    this.#child = spawn(program, args, {
      cwd: options.folder,
      env: options.environment,
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    const { stdin, stdout, stderr } = this.#child;
    this.#child.on("error", (error: NodeJS.ErrnoException) => {
      const isMissing = error.code === "ENOENT";
      this.#finish(
        isMissing ? "cannot be run: there is no such program" : `cannot be run: ${error.message}`,
      );
    });
    this.#child.on("exit", (code, name) => {
      const finish = (): void => {
        const why = this.#firstWords ? `: ${this.#firstWords}` : "";
        this.#finish(`ended with ${name ?? `status ${code}`}${why}`);
      };
      this.#child.once("close", finish);
      // Children of its own may hold its stderr open.
      setTimeout(finish, lastWordsMs).unref();
    });
    stdin?.on("error", () => {
      setTimeout(() => this.#finish("closed its input"), 2 * lastWordsMs).unref();
    });
    readLines(
      stdout!,
      lineBytesMax,
      (line) => this.#answer(line),
      () => {
        this.#finish(`wrote a line longer than ${lineBytesMax} bytes`);
      },
    );
    readLines(
      stderr!,
      64 * 1024,
      (line) => {
        if (this.#firstWords !== null && line.trim() !== "") this.#firstWords = clip(line, 300);
        options.onLog(clip(line, 1_000));
      },
      () => {},
    );
  }

  /** Why it is over; null while it lives. */
  get over(): string | null {
    return this.#over;
  }

  /** Asks and waits for the answer, or until `signal` aborts; then the program is told so. */
  async ask(method: string, params: unknown, signal: AbortSignal): Promise<unknown> {
    if (this.#over !== null) throw new ProviderError("unreachable", this.#over);
    if (this.#pending.size >= pendingMax) {
      throw new ProviderError("throttled", `${pendingMax} requests are under way`, 1_000);
    }
    const id = this.#next++;
    const line = `${JSON.stringify({ id, method, params })}\n`;
    if (Buffer.byteLength(line) > lineBytesMax) {
      throw new ProviderError("invalid", `the request is longer than ${lineBytesMax} bytes`);
    }
    const stdin = this.#child.stdin!;
    if (stdin.writableLength > lineBytesMax) {
      throw new ProviderError("throttled", "the program does not read what it is asked", 1_000);
    }
    const answer = Promise.withResolvers<unknown>();
    const giveUp = (): void => {
      this.#say({ method: "cancel", params: { id } });
      const why = `no answer to ${method} in time; it may have taken effect`;
      answer.reject(new ProviderError("unreachable", why));
    };
    this.#pending.set(id, answer);
    signal.addEventListener("abort", giveUp, { once: true });
    stdin.write(line);
    try {
      return await answer.promise;
    } finally {
      signal.removeEventListener("abort", giveUp);
      this.#pending.delete(id);
    }
  }

  /** Ends the program: its input ends, and it is killed only if it does not end by itself. */
  async close(): Promise<void> {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    if (this.#over !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.stdin?.end();
    const kill = setTimeout(() => this.#child.kill("SIGKILL"), endMs);
    await ended;
    clearTimeout(kill);
  }

  #say(message: unknown): void {
    const stdin = this.#child.stdin;
    if (this.#over === null && stdin?.writable) stdin.write(`${JSON.stringify(message)}\n`);
  }

  #answer(line: string): void {
    let reply: ReturnType<typeof replySchema.safeParse>;
    try {
      reply = replySchema.safeParse(JSON.parse(line));
    } catch {
      return this.#options.onLog(`not JSON: ${quote(line)}`);
    }
    if (!reply.success) return this.#options.onLog(`not an answer: ${quote(line)}`);
    this.#firstWords = null;
    const { id, result, error } = reply.data;
    // One that nobody waits for any more is no fault: it was given up.
    const pending = this.#pending.get(id);
    if (error === undefined) return pending?.resolve(result);
    pending?.reject(new ProviderError(error.kind, error.message, error.retryAfterMs));
  }

  #finish(why: string): void {
    if (this.#over !== null) return;
    this.#over = `${this.#options.command[0]} ${why}`;
    this.#child.kill("SIGKILL");
    const effect = this.#firstWords === null ? "; it may have done its work" : "";
    for (const { reject } of this.#pending.values()) {
      reject(new ProviderError("unreachable", `${this.#over}${effect}`));
    }
    this.#pending.clear();
    this.#options.onOver(this.#over);
  }
}

/** Calls `onLine` for each whole line, and `onTooLong`, once and for all, for one beyond the bound. */
function readLines(
  stream: NodeJS.ReadableStream,
  bytesMax: number,
  onLine: (line: string) => void,
  onTooLong: () => void,
): void {
  let parts: string[] = [];
  let length = 0;
  stream.setEncoding("utf8").on("data", (chunk: string) => {
    const lines = chunk.split("\n");
    const rest = lines.pop() ?? "";
    for (const line of lines) {
      if (length >= 0) onLine(parts.join("") + line);
      parts = [];
      length = 0;
    }
    if (length < 0) return;
    parts.push(rest);
    length += rest.length;
    if (length <= bytesMax) return;
    parts = [];
    length = -1;
    onTooLong();
  });
}
