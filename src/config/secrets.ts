import { readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { resolve } from "node:path";
import { Secret, type SecretReader } from "../domain/secret.ts";

const secretMaxBytes = 64 * 1024;

/** Every secret within `value`, with the path to it. */
export function secretsWithin(value: unknown, path: readonly string[] = []): [string[], Secret][] {
  if (value instanceof Secret) return [[[...path], value]];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => secretsWithin(inner, [...path, key]));
}

export interface SecretSources {
  /** What `file:` paths are relative to. */
  readonly folder: string;
  /** Variables are taken out of it once all secrets are read. */
  readonly environment: Record<string, string | undefined>;
  readonly warn: (text: string) => void;
}

/** Reads secrets from files and the environment. Variables stay until `wipe`. */
export function secretReader(sources: SecretSources): { read: SecretReader; wipe: () => void } {
  const used = new Set<string>();
  return {
    read: ({ kind, name }) => {
      if (kind === "file") return fromFile(name, sources);
      used.add(name);
      const value = sources.environment[name];
      if (value === undefined || value === "") {
        throw new Error(`the variable ${name} is not set; set it where Mayfly is started`);
      }
      return value;
    },
    wipe: () => {
      for (const name of used) delete sources.environment[name];
    },
  };
}

/** The file's text without the newline that editors leave at its end. */
function fromFile(name: string, { folder, warn }: SecretSources): string {
  const path = resolve(folder, name.startsWith("~/") ? `${homedir()}/${name.slice(2)}` : name);
  let text: string;
  try {
    const { size, mode } = statSync(path);
    if (size > secretMaxBytes) throw new Error(`it has ${size} bytes`);
    if ((mode & 0o077) !== 0) {
      warn(`${path} holds a secret and others may read it; run: chmod 600 ${path}`);
    }
    text = readFileSync(path, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    const message = `${path} cannot be read: ${reason(error)}; write the secret there, alone`;
    throw new Error(message, { cause: error });
  }
  if (text === "") throw new Error(`${path} is empty; write the secret there, alone`);
  return text;
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "this user may not",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is no folder",
};

function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return reasons[code ?? ""] ?? message;
}
