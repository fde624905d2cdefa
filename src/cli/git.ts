import { execFile, spawn } from "node:child_process";
import { PassThrough, type Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";

export interface GitResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const outputMax = 64 * 1024 * 1024;
const deadlineMs = 60_000;

/** Runs git to its end, whatever that is. Throws `unavailable` where there is no git. */
export function git(args: readonly string[]): Promise<GitResult> {
  return new Promise((resolve, reject) => {
    const options = { env: environment(), maxBuffer: outputMax, timeout: deadlineMs };
    execFile("git", args, options, (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, stdout, stderr });
      else if (typeof error.code === "number") resolve({ code: error.code, stdout, stderr });
      else reject(notStarted(error));
    });
  });
}

/** What git writes, as it writes it; the stream fails when git does. */
export function gitStream(args: readonly string[]): Readable {
  const output = new PassThrough();
  const child = spawn("git", args, { env: environment(), stdio: ["ignore", "pipe", "pipe"] });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-4096);
  });
  child.stdout.pipe(output, { end: false });
  child.once("error", (error) => output.destroy(notStarted(error)));
  child.once("close", (code) => {
    if (code === 0) output.end();
    else output.destroy(new MayflyError("unavailable", `git could not: ${lastLine(errors)}`));
  });
  output.once("close", () => child.kill());
  return output;
}

/** The last line, without `fatal: `. */
export function lastLine(text: string): string {
  return (text.trim().split("\n").at(-1) ?? "").replace(/^(fatal|error): /, "");
}

/** The repository is the one that is named, not one that a hook's variables point to. */
function environment(): NodeJS.ProcessEnv {
  const own = { ...process.env, LC_ALL: "C", GIT_OPTIONAL_LOCKS: "0" };
  for (const name of ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"]) {
    Reflect.deleteProperty(own, name);
  }
  return own;
}

function notStarted(error: Error & { code?: unknown }): MayflyError {
  if (error.code !== "ENOENT") {
    return new MayflyError("unavailable", `git failed: ${lastLine(error.message)}`);
  }
  return new MayflyError("unavailable", "there is no git on the PATH", {
    hint: "Install it (Debian: apt-get install git), or send an archive with --tarball.",
  });
}
