import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config, Part } from "../config/config.ts";
import { loadConfig, type Surroundings } from "../config/load.ts";
import type { DefaultProvider } from "../config/references.ts";
import type { Kinds } from "../config/schema.ts";
import { MayflyError } from "../domain/errors.ts";
import type { Size } from "../domain/size.ts";
import { silentLog } from "../fleet/log.ts";
import { forges } from "../forges/registry.ts";
import { hostSize } from "../providers/local.ts";
import { nobody } from "../providers/names.ts";
import type { Check, ProviderContext } from "../providers/provider.ts";
import { detect, providers } from "../providers/registry.ts";
import { configFile, defaultStateFolder, makeFolder } from "./places.ts";

/*
 * The configuration as it stands on this machine: its file or none, with what is found here.
 */

/** Every kind that a configuration may name. */
export const kinds: Kinds = { forges, providers };

export interface PlaceFlags {
  readonly config?: string;
  readonly state?: string;
}

/** Reads the configuration that the flags, or the current folder, name. Throws `ConfigError`. */
export async function readConfig(flags: PlaceFlags): Promise<Config> {
  const surroundings = await surroundingsOf(flags);
  const config = await loadConfig(configFile(flags.config, process.env), surroundings);
  return flags.state === undefined ? config : { ...config, stateFolder: surroundings.stateFolder };
}

/** What a configuration is read in: this machine, this user's folders and environment. */
export async function surroundingsOf(flags: PlaceFlags): Promise<Surroundings> {
  const stateFolder =
    flags.state === undefined ? defaultStateFolder(process.env) : resolve(flags.state);
  return {
    kinds,
    machine: await thisMachine(),
    stateFolder,
    environment: process.env,
    detect: () => bestProvider(stateFolder),
  };
}

/** What this machine has, or what of it our own container may use. */
async function thisMachine(): Promise<Size> {
  const size = await hostSize(process.cwd());
  // Zero, or far more than there is, where nothing constrains us.
  const allowedMb = Math.floor(process.constrainedMemory() / 2 ** 20);
  return { ...size, memoryMb: allowedMb > 0 ? Math.min(allowedMb, size.memoryMb) : size.memoryMb };
}

const checkMs = 60_000;

/** The best provider that needs no configuration, and why not a better one. */
async function bestProvider(stateFolder: string): Promise<DefaultProvider> {
  makeFolder(stateFolder);
  const found = await detect(join(stateFolder, "providers"), AbortSignal.timeout(checkMs));
  const best = found.find(({ ready }) => ready);
  if (best === undefined) {
    throw new MayflyError("unavailable", "no provider can make machines here", {
      hint: "`mayfly doctor` says what is missing and how to mend it.",
    });
  }
  const better = found
    .slice(0, found.indexOf(best))
    .flatMap(({ kind, note }) => (note === null ? [] : [`no ${kind}: ${note}`]));
  const words = [...better, ...(best.note === null ? [] : [best.note])];
  return { kind: best.kind, warning: words.length === 0 ? null : words.join("; so ") };
}

export interface Tried {
  readonly checks: readonly Check[];
  /** Why it can run nothing; null: it can. */
  readonly problem: string | null;
}

/** Checks a provider as a server would open it. */
export async function tryProvider(part: Part, stateFolder: string): Promise<Tried> {
  const known = providers[part.kind];
  if (known === undefined) return { checks: [], problem: `there is no provider ${part.kind}` };
  const signal = AbortSignal.timeout(checkMs);
  try {
    const options = known.options.parse(part.options);
    const checks = await known.check(options, contextFor(part.name, stateFolder), signal);
    const lacking = checks.find(({ ok, isOptional }) => !ok && isOptional !== true);
    return { checks, problem: lacking === undefined ? null : `${lacking.name}: ${lacking.detail}` };
  } catch (error) {
    return { checks: [], problem: error instanceof Error ? error.message : String(error) };
  }
}

/** Under an installation's name that has no machines, so that a check can meddle with none. */
export function contextFor(name: string, stateFolder: string): ProviderContext {
  const folder = join(stateFolder, "providers", name);
  const guestFolder = join(stateFolder, "guest");
  makeFolder(stateFolder);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  mkdirSync(guestFolder, { recursive: true, mode: 0o711 });
  const now = (): number => Date.now();
  return { name, installation: nobody, folder, guestFolder, stateFolder, now, log: silentLog };
}
