import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config, Part } from "../config/config.ts";
import { loadConfig, type Surroundings } from "../config/load.ts";
import type { DefaultProvider } from "../config/references.ts";
import type { Kinds } from "../config/schema.ts";
import type { Size } from "../domain/size.ts";
import { silentLog } from "../fleet/log.ts";
import { forges } from "../forges/registry.ts";
import { hostSize } from "../providers/local.ts";
import type { Check, Provider } from "../providers/provider.ts";
import { providers } from "../providers/registry.ts";
import { configFile, defaultStateFolder } from "./places.ts";

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
  const stateFolder =
    flags.state === undefined ? defaultStateFolder(process.env) : resolve(flags.state);
  const surroundings: Surroundings = {
    kinds,
    machine: await thisMachine(),
    stateFolder,
    environment: process.env,
    detect: () => detect(stateFolder),
  };
  const config = await loadConfig(configFile(flags.config, process.env), surroundings);
  return flags.state === undefined ? config : { ...config, stateFolder };
}

/** What this machine has, or what of it our own container may use. */
async function thisMachine(): Promise<Size> {
  const size = await hostSize(process.cwd());
  // Zero, or far more than there is, where nothing constrains us.
  const allowedMb = Math.floor(process.constrainedMemory() / 2 ** 20);
  return { ...size, memoryMb: allowedMb > 0 ? Math.min(allowedMb, size.memoryMb) : size.memoryMb };
}

const checkMs = 60_000;

/** podman where it works, else plain processes and a word about it. */
async function detect(stateFolder: string): Promise<DefaultProvider> {
  const { problem } = await tryProvider(
    { name: "podman", kind: "podman", options: {} },
    stateFolder,
  );
  if (problem === null) return { kind: "podman", warning: null };
  const warning =
    `podman does not work here (${problem}), so jobs run as plain processes on this machine: ` +
    "nothing is kept apart, and only trusted jobs are taken; `mayfly doctor` says how to mend it";
  return { kind: "host", warning };
}

export interface Tried {
  readonly checks: readonly Check[];
  /** Why it can run nothing; null: it can. */
  readonly problem: string | null;
}

/** Opens a provider as a server would, checks it, and closes it again. */
export async function tryProvider(part: Part, stateFolder: string): Promise<Tried> {
  const signal = AbortSignal.timeout(checkMs);
  let provider: Provider | undefined;
  try {
    provider = await openAlone(part, stateFolder);
    const checks = await provider.check(signal);
    const lacking = checks.find(({ ok, isOptional }) => !ok && isOptional !== true);
    return { checks, problem: lacking === undefined ? null : `${lacking.name}: ${lacking.detail}` };
  } catch (error) {
    return { checks: [], problem: error instanceof Error ? error.message : String(error) };
  } finally {
    await provider?.close();
  }
}

/** Under an installation's name that has no machines, so that it can meddle with none. */
function openAlone({ name, kind, options }: Part, stateFolder: string): Promise<Provider> {
  const known = providers[kind];
  if (known === undefined) throw new Error(`there is no provider ${kind}`);
  const folder = join(stateFolder, "providers", name);
  const guestFolder = join(stateFolder, "guest");
  mkdirSync(stateFolder, { recursive: true, mode: 0o700 });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  mkdirSync(guestFolder, { recursive: true, mode: 0o711 });
  return known.open(known.options.parse(options), {
    name,
    installation: "nobody",
    folder,
    guestFolder,
    stateFolder,
    now: () => Date.now(),
    log: silentLog,
  });
}
