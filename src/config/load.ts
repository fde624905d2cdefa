import { readFileSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { SecretReader } from "../domain/secret.ts";
import type { Size } from "../domain/size.ts";
import type { Config } from "./config.ts";
import { parseYaml, type Fault, type PlainDocument } from "./document.ts";
import { brokerFaults, brokerPools, brokerWarnings, buildBroker } from "./broker.ts";
import { buildPools, overLimits } from "./pools.ts";
import { ConfigError, explain } from "./problems.ts";
import {
  entries,
  inner,
  referenceFaults,
  resolveParts,
  type DefaultProvider,
} from "./references.ts";
import { configSchema, regionOfQueue, type ConfigFile, type Kinds } from "./schema.ts";
import { secretReader, secretsWithin } from "./secrets.ts";
import { halfOf } from "./size.ts";

const fileMaxBytes = 1024 * 1024;

/** What surrounds a configuration: handed in, so that a test decides it. */
export interface Surroundings {
  readonly kinds: Kinds;
  /** All that this machine has. */
  readonly machine: Size;
  /** The state folder where the file names none. */
  readonly stateFolder: string;
  /** Variables that secrets are read from are removed. */
  readonly environment: Record<string, string | undefined>;
  /** The provider where none is configured; asked only then. */
  readonly detect: () => Promise<DefaultProvider>;
}

/** Reads a configuration file, or takes every default for null. Throws `ConfigError`. */
export async function loadConfig(file: string | null, surroundings: Surroundings): Promise<Config> {
  return parseConfig(file === null ? "" : readConfigFile(file), file, surroundings);
}

/**
 * A configuration from its text. `file` is what errors call it, and what the paths in it are
 * relative to. Throws `ConfigError` with all that is wrong at once.
 */
export async function parseConfig(
  text: string,
  file: string | null,
  surroundings: Surroundings,
): Promise<Config> {
  const { kinds, machine, environment, detect } = surroundings;
  const called = file ?? "mayfly.yaml";
  const folder = dirname(resolve(called));
  const document = parseYaml(text);
  const plain = withEmptyOptions(document.value ?? {});
  const schema = configSchema(kinds, halfOf(machine));
  const checked = schema.safeParse(plain);
  const found = checked.success ? [] : explain(schema, plain, checked.error.issues);
  const faults = [...found, ...referenceFaults(plain, kinds)];
  refuse(called, document, faults);
  if (!checked.success) throw new ConfigError(called, []);

  const settings = checked.data;
  const warnings: string[] = [];
  const secrets = secretReader({ folder, environment, warn: (text) => warnings.push(text) });
  refuse(called, document, [
    ...readAll(settings, secrets.read),
    ...overLimits(settings),
    ...brokerFaults(settings, kinds, machine),
  ]);
  secrets.wipe();

  const parts = await resolveParts(settings, kinds, detect);
  const broker = buildBroker(settings, machine);
  const pools = brokerPools(buildPools(settings, parts, machine), broker, settings);
  return {
    file,
    listen: settings.listen ?? { host: "127.0.0.1", port: 8420 },
    url: settings.url?.replace(/\/+$/, "") ?? null,
    stateFolder:
      settings.state === undefined ? surroundings.stateFolder : resolve(folder, settings.state),
    postgres: settings.store?.postgres ?? null,
    leaseSeconds: Math.max(leaseSecondsMin, settings.store?.lease ?? 15),
    token: settings.token ?? null,
    front: frontOf(settings),
    forges: parts.forges,
    providers: parts.providers,
    pools,
    broker,
    warnings: [...warnings, ...parts.warnings, ...brokerWarnings(pools, broker)],
  };
}

function frontOf({ front }: ConfigFile): Config["front"] {
  if (front === undefined) return null;
  const { queue, region = regionOfQueue(queue) ?? "", accessKey = null } = front;
  return { queue, region, accessKey };
}

/** Less would make every pause of a process a change of hands. */
const leaseSecondsMin = 2;

function refuse(called: string, document: PlainDocument, faults: readonly Fault[]): void {
  const problems = [...document.problems, ...faults.map((fault) => document.place(fault))];
  if (problems.length === 0) return;
  problems.sort((a, b) => a.line - b.line || a.column - b.column);
  throw new ConfigError(called, problems);
}

/** Reads every secret of the settings; those that cannot be read are faults. */
function readAll(settings: ConfigFile, read: SecretReader): Fault[] {
  return secretsWithin(settings).flatMap(([path, secret]) => {
    try {
      secret.load(read);
      return [];
    } catch (error) {
      return [{ path, message: (error as Error).message }];
    }
  });
}

/** `box: { podman: }` means podman with no options of its own, `broker:` one with every default. */
function withEmptyOptions(plain: unknown): unknown {
  if (entries(plain).some(([key, value]) => key === "broker" && value === undefined)) {
    (plain as Record<string, unknown>)["broker"] = {};
  }
  for (const section of ["forges", "providers"]) {
    for (const [, entry] of emptied(inner(plain, section))) emptied(entry);
  }
  return plain;
}

/** The entries of a map, those without a value having been given an empty map. */
function emptied(map: unknown): [string, unknown][] {
  for (const [key, value] of entries(map)) {
    if (value === undefined) (map as Record<string, unknown>)[key] = {};
  }
  return entries(map);
}

function readConfigFile(file: string): string {
  try {
    const { size } = statSync(file);
    if (size > fileMaxBytes)
      throw new Error(`it has ${size} bytes, at most ${fileMaxBytes} are read`);
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = readFailures[code ?? ""] ?? message;
    throw new ConfigError(file, [
      { line: 1, column: 1, path: "", message: `cannot be read: ${why}` },
    ]);
  }
}

const readFailures: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file; give another with --config, or none for the defaults",
  EISDIR: "it is a folder; name the file in it",
  EACCES: "this user may not",
  ERR_ENCODING_INVALID_ENCODED_DATA: "it is not UTF-8 text",
};
