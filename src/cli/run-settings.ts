import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseDuration } from "../config/text.ts";
import { parseSize } from "../domain/capacity.ts";
import { MayflyError } from "../domain/errors.ts";
import type { Size } from "../domain/size.ts";
import { quote } from "../domain/words.ts";
import { parseDotEnv } from "../executor/dot-env.ts";
import { hostSize } from "../providers/local.ts";
import type { CommonFlags } from "./program.ts";

export interface RunFlags extends CommonFlags {
  readonly state?: string;
  readonly rev?: string;
  readonly provider?: string;
  readonly image?: string;
  readonly cpu?: string;
  readonly memory?: string;
  readonly timeout?: string;
  readonly network?: true;
  readonly env?: readonly string[];
  readonly artifact?: readonly string[];
  readonly artifacts?: string;
  readonly keepOnFail?: true;
  readonly shell?: true;
  readonly enter?: string;
  readonly end?: string;
}

/** What a run is asked for, from its flags, the environment and `.env`, in this order. */
export interface RunSettings {
  /** Null: the best that works here. */
  readonly provider: string | null;
  readonly image: string | null;
  readonly size: Size;
  readonly timeoutSeconds: number;
  readonly network: boolean;
  /** The declared variables, and no other. */
  readonly environment: Readonly<Record<string, string>>;
  /** Null: one of our own, in the current folder. */
  readonly artifactFolder: string | null;
}

const hourSeconds = 3600;
/** What most tests get by with. */
const fairMb = 4096;

/**
 * Reads the settings of a run in the repository at `top`, whose machines lie below `stateFolder`.
 * Throws `invalid`, naming the place.
 */
export async function readSettings(
  flags: RunFlags,
  top: string,
  stateFolder: string,
  here: NodeJS.ProcessEnv,
): Promise<RunSettings> {
  const file = await dotEnv(join(top, ".env"));
  const known = (name: string): string | undefined => here[name] ?? file.get(name);
  const setting = (flag: string | undefined, name: string): Given | null => {
    if (flag !== undefined) return { text: flag, where: `--${name.toLowerCase()}` };
    const text = known(`MAYFLY_${name}`);
    return text === undefined || text === "" ? null : { text, where: `MAYFLY_${name}` };
  };
  const declared = (known("MAYFLY_ENV") ?? "").split(/[\s,]+/).filter((name) => name !== "");
  const network = setting(undefined, "NETWORK");
  return {
    provider: setting(flags.provider, "PROVIDER")?.text ?? null,
    image: setting(flags.image, "IMAGE")?.text ?? null,
    size: await readSize(setting(flags.cpu, "CPU"), setting(flags.memory, "MEMORY"), stateFolder),
    timeoutSeconds: readTimeout(setting(flags.timeout, "TIMEOUT"), flags.shell === true),
    network: flags.network === true || (network !== null && readSwitch(network)),
    environment: Object.fromEntries([
      ...declared.map((name) => variable(name, known, "MAYFLY_ENV")),
      ...(flags.env ?? []).map((text) => variable(text, known, "--env")),
    ]),
    artifactFolder: setting(flags.artifacts, "ARTIFACTS")?.text ?? null,
  };
}

interface Given {
  readonly text: string;
  readonly where: string;
}

async function dotEnv(path: string): Promise<Map<string, string>> {
  try {
    return parseDotEnv(await readFile(path, "utf8"), path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return new Map();
    throw error;
  }
}

/** `NAME=value`, or `NAME` alone for its value here or in `.env`. */
function variable(
  text: string,
  known: (name: string) => string | undefined,
  where: string,
): [string, string] {
  const at = text.indexOf("=");
  const name = at < 0 ? text : text.slice(0, at);
  const value = at < 0 ? known(name) : text.slice(at + 1);
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    throw new MayflyError("invalid", `${quote(name)} is no variable's name`, { where });
  }
  if (value !== undefined) return [name, value];
  throw new MayflyError("invalid", `${quote(name)} has a value neither here nor in .env`, {
    where,
    hint: "Write NAME=value, or set it.",
  });
}

/**
 * All of this host's processors, and of its memory what lets several runs go on at once: a quarter,
 * or half where that is little.
 */
async function readSize(cpu: Given | null, memory: Given | null, folder: string): Promise<Size> {
  const host = await hostSize(folder);
  const cores = cpu === null ? availableParallelism() : Number(cpu.text);
  if (!(cores > 0 && cores <= 1024)) {
    throw new MayflyError("invalid", `${quote(cpu?.text ?? "")} is no number of processors`, {
      where: cpu?.where ?? "",
      hint: 'Write it like "2" or "0.5".',
    });
  }
  const half = Math.floor(host.memoryMb / 2);
  const base: Size = {
    cpu: cores,
    memoryMb: Math.max(256, Math.floor(host.memoryMb / 4), Math.min(fairMb, half)),
    diskGb: Math.min(20, Math.max(1, Math.floor(host.diskGb / 2))),
    gpu: 0,
    architecture: host.architecture,
  };
  if (memory === null) return base;
  if (/^0*[1-9]\d*(\.\d+)?(gb|mb)$/i.test(memory.text)) {
    return { ...parseSize(memory.text.toLowerCase(), base), cpu: cores };
  }
  throw new MayflyError("invalid", `${quote(memory.text)} is no amount of memory`, {
    where: memory.where,
    hint: 'Write it like "4gb" or "512mb".',
  });
}

function readTimeout(given: Given | null, isShell: boolean): number {
  if (given === null) return isShell ? 12 * hourSeconds : hourSeconds;
  const seconds = parseDuration(given.text);
  if (seconds !== null && seconds <= 7 * 24 * hourSeconds) return seconds;
  throw new MayflyError("invalid", `${quote(given.text)} is no duration up to 7d`, {
    where: given.where,
    hint: 'Write it like "90s", "10m" or "2h".',
  });
}

function readSwitch({ text, where }: Given): boolean {
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  if (/^(0|false|no|off)$/i.test(text)) return false;
  throw new MayflyError("invalid", `${quote(text)} is neither true nor false`, { where });
}
