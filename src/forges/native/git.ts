import { spawn, type ChildProcessByStdio } from "node:child_process";
import { PassThrough, type Readable } from "node:stream";
import { MayflyError } from "../../domain/errors.ts";
import { clip } from "../../domain/words.ts";

/** What of our own environment git may see: where keys, proxies and certificates are. */
const passedOn = [
  "PATH",
  "HOME",
  "SSH_AUTH_SOCK",
  "http_proxy",
  "https_proxy",
  "HTTPS_PROXY",
  "no_proxy",
  "NO_PROXY",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
  "GIT_SSL_CAINFO",
];

/** Our own configuration in place of the system's and the user's, whose hooks and helpers run code. */
export const gitConfiguration = `[safe]
	directory = *
[core]
	hooksPath = /dev/null
	fsmonitor = false
[credential]
	helper =
[protocol]
	version = 2
[gc]
	auto = 0
[maintenance]
	auto = false
[fetch]
	recurseSubmodules = false
[http]
	lowSpeedLimit = 1000
	lowSpeedTime = 30
`;

export interface GitRun {
  readonly folder: string;
  /** The file with `gitConfiguration`. */
  readonly configuration: string;
  /** The one protocol it may speak, or null for none. */
  readonly protocol: string | null;
  readonly deadlineMs: number;
  /** The largest file it may write. */
  readonly fileBytesMax: number;
}

export interface GitProcess {
  readonly stdout: Readable;
  /** Resolves at its end; rejects as a `MayflyError` when it failed or took too long. */
  readonly done: Promise<void>;
  kill(): void;
}

const errorBytesMax = 8 * 1024;

/**
 * Starts git in a process group of its own, without a terminal, prompts, hooks or any configuration
 * but ours. The shell is there for its file size limit; no argument passes through its hands.
 */
export function startGit(run: GitRun, args: readonly string[]): GitProcess {
  const limit = 'ulimit -f "$1" && shift && exec git "$@"';
  const blocks = String(Math.ceil(run.fileBytesMax / 512));
  const child: ChildProcessByStdio<null, Readable, Readable> = spawn(
    "/bin/sh",
    ["-c", limit, "sh", blocks, "-C", run.folder, ...args],
    { env: environment(run), stdio: ["ignore", "pipe", "pipe"], detached: true },
  );
  const kill = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // It is over.
    }
  };
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    kill();
  }, run.deadlineMs);
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-errorBytesMax);
  });
  const done = new Promise<void>((resolve, reject) => {
    child.once("error", (error) => {
      clearTimeout(timer);
      reject(new MayflyError("unavailable", `git cannot be started: ${error.message}`));
    });
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      // What it started may still hold a connection.
      kill();
      if (code === 0) resolve();
      else if (isLate) reject(late(run.deadlineMs));
      else reject(explain(errors, signal));
    });
  });
  // Node throws away what a process printed if nobody reads it by the time it ends.
  return { stdout: child.stdout.pipe(new PassThrough()), done, kill };
}

/** Runs git to its end; what it printed, at most 64 KiB of it. */
export async function git(run: GitRun, args: readonly string[]): Promise<string> {
  const child = startGit(run, args);
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => {
    if (text.length < 65_536) text += chunk.toString();
  });
  await child.done;
  return text.trim();
}

function environment({ configuration, protocol }: GitRun): Record<string, string> {
  const own = Object.fromEntries(
    passedOn.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
  return {
    ...own,
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: configuration,
    GIT_ALLOW_PROTOCOL: protocol ?? "none",
    GIT_TERMINAL_PROMPT: "0",
    // A partial clone would fetch what it lacks by a command of its own configuration.
    GIT_NO_LAZY_FETCH: "1",
    GIT_SSH_COMMAND: "ssh -oBatchMode=yes -oConnectTimeout=20",
  };
}

function late(deadlineMs: number): MayflyError {
  return new MayflyError("unavailable", `git took longer than ${Math.round(deadlineMs / 1000)} s`, {
    hint: "Try again, or upload the tree instead.",
  });
}

/** git tells of its failures only in words; LC_ALL=C keeps them the same everywhere. */
const meanings: readonly (readonly [RegExp, MayflyError["code"], string])[] = [
  [
    /couldn't find remote ref|not our ref|no such ref|unadvertised object/i,
    "not_found",
    "there is no such revision",
  ],
  [
    /repository .* (?:not found|does not exist)|not appear to be a git repository|does not exist/i,
    "not_found",
    "there is no such repository",
  ],
  [
    /could not read Username|Authentication failed|Permission denied|Host key verification failed|returned error: 40[13]/i,
    "forbidden",
    "the repository's server lets us not in",
  ],
  [/died of signal 25|File size limit|File too large/i, "too_large", "the repository is too large"],
  [
    /repository corruption|invalid index-pack output|lazy fetching disabled/i,
    "unavailable",
    "the repository lacks objects, as a partial clone does",
  ],
  [/No space left|Disk quota/i, "unavailable", "the disk is full"],
];

function explain(errors: string, signal: NodeJS.Signals | null): MayflyError {
  const lines = errors.replaceAll(/[^\P{Cc}\n]/gu, " ").split("\n");
  const said =
    lines.findLast((line) => /^(fatal|error|remote|ssh):/i.test(line)) ?? lines.join(" ");
  const [, code, meaning] = meanings.find(([words]) => words.test(errors)) ?? [];
  if (signal === "SIGXFSZ") return new MayflyError("too_large", "the repository is too large");
  const detail = clip(
    said.trim() === "" ? `it ended by ${signal ?? "an error"}` : said.trim(),
    300,
  );
  return new MayflyError(
    code ?? "unavailable",
    meaning === undefined ? `git failed: ${detail}` : `${meaning} (${detail})`,
  );
}
