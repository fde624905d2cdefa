import { createHash } from "node:crypto";
import { chown, mkdir, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ProviderError } from "../domain/errors.ts";
import type { Program } from "../domain/program.ts";
import { quote } from "../domain/words.ts";

const filesMax = 1_000;
const bytesMax = 16 * 1024 * 1024;
/** Linux takes at most 128 KiB in one argument or variable, its name and the NUL included. */
const wordBytesMax = 128 * 1024 - 256;
const wordsBytesMax = 1024 * 1024;
const deadlineSecondsMax = 366 * 24 * 3600;

/** Where a machine sees what it was given. */
export interface Places {
  readonly program: string;
  readonly guest: string;
}

/** A program whose placeholders are replaced. */
export interface Placed {
  readonly command: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
}

/** Throws `invalid` for a program that no provider may carry out: its paths, names and sizes. */
export function refuseProgram(program: Program): void {
  const refuse = (reason: string): never => {
    throw new ProviderError("invalid", `the program cannot be run: ${reason}`);
  };
  if (program.files.length > filesMax) refuse(`more than ${filesMax} files`);
  let bytes = 0;
  for (const { path, mode, content } of program.files) {
    const parts = path.split("/");
    const strange = path.includes("\0") || Buffer.byteLength(path) > 1_000;
    if (strange || parts.some((part) => part === "" || part === "." || part === "..")) {
      refuse(`a file's path is ${quote(path)}`);
    }
    if (!Number.isInteger(mode) || mode < 0 || mode > 0o777) refuse(`${path} has mode ${mode}`);
    bytes += Buffer.byteLength(content);
  }
  if (bytes > bytesMax) refuse(`its files are larger than ${bytesMax} bytes together`);
  const { deadlineSeconds } = program;
  if (!(deadlineSeconds > 0 && deadlineSeconds <= deadlineSecondsMax)) {
    refuse(`its deadline is ${deadlineSeconds} s`);
  }
  if (!program.command[0]) refuse("its command is empty");
  for (const word of [...program.command, ...Object.values(program.environment)]) {
    if (word.includes("\0")) refuse(`${quote(word)} holds a NUL`);
  }
  for (const name of Object.keys(program.environment)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) refuse(`a variable's name is ${quote(name)}`);
  }
}

/** The command and the environment with `{program}` and `{guest}` replaced, wherever they stand. */
export function place(program: Program, places: Places): Placed {
  let total = 0;
  const replaced = (word: string): string => {
    const text = word.replace(/\{(program|guest)\}/g, (_, key: keyof Places) => places[key]);
    const bytes = Buffer.byteLength(text);
    total += bytes;
    if (bytes > wordBytesMax || total > wordsBytesMax) {
      const fault = `${quote(text)} makes it too long`;
      throw new ProviderError("invalid", `the program cannot be run: ${fault}`);
    }
    return text;
  };
  const [first = "", ...rest] = program.command;
  const environment = Object.entries(program.environment).map(
    ([name, value]) => [name, replaced(value)] as const,
  );
  return {
    command: [replaced(first), ...rest.map(replaced)],
    environment: Object.fromEntries(environment),
  };
}

/** Tells one program from another of the same machine. */
export function digestOf(program: Program): string {
  return createHash("sha256").update(JSON.stringify(program)).digest("hex");
}

/**
 * Writes the program's files below `folder`, which it makes, each with its own mode whatever the
 * umask. `owner` (a uid, and the gid of the same number) gets all of it.
 */
export async function writeProgram(
  folder: string,
  program: Program,
  owner: number | null = null,
): Promise<void> {
  const made = new Set<string>();
  const makeFolder = async (path: string): Promise<void> => {
    if (made.has(path)) return;
    if (path !== folder) await makeFolder(dirname(path));
    made.add(path);
    await mkdir(path, { mode: 0o755 }).catch(ignoreExisting);
    if (owner !== null) await chown(path, owner, owner);
  };
  await makeFolder(folder);
  for (const { path, mode, content } of program.files) {
    await makeFolder(dirname(join(folder, path)));
    const file = await open(join(folder, path), "wx", 0o600);
    try {
      await file.writeFile(content);
      await file.chmod(mode);
      if (owner !== null) await file.chown(owner, owner);
    } finally {
      await file.close();
    }
  }
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== "EEXIST") throw error;
}
