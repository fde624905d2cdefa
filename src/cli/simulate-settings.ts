import { readFileSync } from "node:fs";
import { parseDocument } from "yaml";
import type { Config, Part } from "../config/config.ts";
import { parseConfig } from "../config/load.ts";
import { parseDuration } from "../config/text.ts";
import { MayflyError } from "../domain/errors.ts";
import {
  gitlabTags,
  native,
  subset,
  subsetIgnoringCase,
  subsetNonEmpty,
  type LabelRule,
} from "../domain/matching.ts";
import { free, parsePrice, type Price } from "../domain/money.ts";
import { counted, quote } from "../domain/words.ts";
import { providers } from "../providers/registry.ts";
import type { Provider } from "../providers/provider.ts";
import { bootOf, type Boot, type ProviderModel, type Setting } from "../sim/trace/setting.ts";
import { configFile } from "./places.ts";
import { contextFor, surroundingsOf } from "./setting.ts";

export interface SettingFlags {
  readonly config?: readonly string[];
  readonly set?: readonly string[];
  readonly state?: string;
  readonly boot?: readonly string[];
  readonly price?: readonly string[];
  readonly billing?: readonly string[];
}

/** Boots of machines, ms, by provider: from the history that there is. */
export type Measured = ReadonlyMap<string, readonly number[]>;

/** Settings, and what a person should know of how they came about. */
export interface Settings {
  readonly settings: readonly Setting[];
  readonly notes: readonly string[];
}

/** With fewer machines than this, what was measured is left to chance. */
const measuredMin = 5;
const assumedBoot: Boot = { quantilesMs: [30_000], from: "assumed, nothing was measured" };
const endingMs = 2000;

/** The settings that the flags ask for: each configuration as it stands, and with each change. */
export async function readSettings(flags: SettingFlags, measured: Measured): Promise<Settings> {
  const files = flags.config ?? [configFile(undefined, process.env)];
  const changes = [null, ...(flags.set ?? [])];
  const settings: Setting[] = [];
  const notes = new Set<string>();
  for (const file of files) {
    for (const change of changes) {
      const config = await readChanged(file, change, flags);
      const called = file ?? "every default";
      const name = change === null ? called : files.length === 1 ? change : `${called}, ${change}`;
      const models = new Map<string, ProviderModel>();
      for (const part of config.providers) {
        models.set(part.name, await modelOf(part, config, flags, measured, notes));
      }
      const ruleOf = (forge: string): LabelRule => ruleOfKind(config, forge);
      settings.push({ name, pools: config.pools, providers: models, ruleOf });
    }
  }
  refuseStrangers(settings, flags);
  return { settings, notes: [...notes] };
}

/** The configuration as it would be with a change such as `pools.small.warm=2`. */
async function readChanged(
  file: string | null,
  change: string | null,
  { state }: SettingFlags,
): Promise<Config> {
  const surroundings = await surroundingsOf(state === undefined ? {} : { state });
  const text = file === null ? "" : textOf(file);
  return parseConfig(change === null ? text : changed(text, change), file, {
    ...surroundings,
    // Reading a secret takes it out of the environment, and the next setting wants it again.
    environment: { ...process.env },
    // Nothing will be made: what would be found here is of no consequence.
    detect: () => Promise.resolve({ kind: "podman", warning: null }),
  });
}

function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new MayflyError("not_found", `${file} cannot be read: ${(error as Error).message}`, {
      where: "--config",
      hint: "Name a configuration, or none for every default.",
    });
  }
}

/** `pools.small.warm=2,pools.small.max=8`: paths into the file, and values as YAML has them. */
export function changed(text: string, change: string): string {
  const document = parseDocument(text.trim() === "" ? "{}" : text);
  // A list's commas are followed by no further path.
  for (const one of change.split(/,(?=[\w.-]+=)/)) {
    const [, path, value] = /^([\w-]+(?:\.[\w-]+)+)=(.+)$/s.exec(one.trim()) ?? [];
    if (path === undefined || value === undefined) {
      throw new MayflyError("invalid", `${quote(one)} is no change`, {
        where: "--set",
        hint: "Write it like pools.small.warm=2; several with a comma between them.",
      });
    }
    document.setIn(path.split("."), parseDocument(value).toJS());
  }
  return document.toString();
}

/** The rules of the forges that there are; GitHub's for any other. */
function ruleOfKind({ forges }: Config, name: string): LabelRule {
  const part = forges.find((forge) => forge.name === name);
  const runUntagged = (part?.options as { runUntagged?: boolean } | undefined)?.runUntagged;
  const rules: Readonly<Record<string, LabelRule>> = {
    native,
    gitea: subset,
    woodpecker: subset,
    forgejo: subsetNonEmpty,
    gitlab: gitlabTags(runUntagged === true),
  };
  return rules[part?.kind ?? ""] ?? subsetIgnoringCase;
}

async function modelOf(
  part: Part,
  config: Config,
  flags: SettingFlags,
  measured: Measured,
  notes: Set<string>,
): Promise<ProviderModel> {
  const boot = bootFrom(flags.boot, part.name) ?? measuredBoot(part.name, measured) ?? assumedBoot;
  const [low = 0, high = low] = [boot.quantilesMs[0], boot.quantilesMs.at(-1)];
  const span = low === high ? `${low / 1000} s` : `${low / 1000} to ${high / 1000} s`;
  notes.add(`Machines of ${part.name} boot in ${span} (${boot.from}).`);
  const given = priceFrom(flags, part.name);
  if (given !== null) return { boot, endingMs, price: () => given };
  return { boot, endingMs, price: await ownPrice(part, config, notes) };
}

function measuredBoot(provider: string, measured: Measured): Boot | null {
  const boots = measured.get(provider) ?? [];
  if (boots.length < measuredMin) return null;
  return bootOf(boots, `measured on ${counted(boots.length, "machine")}`);
}

/** What the provider itself says its machines cost; those of one's own are free. */
async function ownPrice(
  part: Part,
  { stateFolder }: Config,
  notes: Set<string>,
): Promise<(size: Parameters<Provider["price"]>[0]) => Price> {
  if (["qemu", "podman", "host"].includes(part.kind)) return () => free;
  const known = providers[part.kind];
  let opened: Provider | null = null;
  try {
    const options: unknown = known?.options.parse(part.options);
    opened = (await known?.open(options, contextFor(part.name, stateFolder))) ?? null;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    notes.add(`Prices of ${part.name} are unknown (${why}): it counts as free. See --price.`);
  }
  if (opened === null) return () => free;
  // Prices are arithmetic on what it said when it was opened.
  const provider = opened;
  await provider.close();
  return (size) => provider.price(size);
}

/** The value of the last flag that is for this provider: `box=20s`, or `20s` for all. */
function flagFor(values: readonly string[] | undefined, provider: string): string | null {
  const fitting = (values ?? []).map((value) => {
    const [, name, rest] = /^(?:([\w-]+)=)?(.*)$/s.exec(value) ?? [];
    return name === undefined || name === provider ? (rest ?? null) : null;
  });
  return fitting.findLast((value) => value !== null) ?? null;
}

function bootFrom(values: readonly string[] | undefined, provider: string): Boot | null {
  const text = flagFor(values, provider);
  if (text === null) return null;
  const times = text.split("-").map((part) => (part.trim() === "0" ? 0 : parseDuration(part)));
  const [low = null, high = low] = times;
  if (low === null || high === null || high < low || times.length > 2) {
    throw new MayflyError("invalid", `${quote(text)} is no time to boot`, {
      where: "--boot",
      hint: "Write 20s, or 10s-40s for anything between, or PROVIDER=20s for one provider.",
    });
  }
  return { quantilesMs: [low * 1000, high * 1000], from: "given" };
}

const perHour: Readonly<Record<string, number>> = { s: 3600, min: 60, h: 1 };

function priceFrom({ price, billing }: SettingFlags, provider: string): Price | null {
  const text = flagFor(price, provider);
  if (text === null) return null;
  const [, amount, unit = "h"] = /^\$?(\d+(?:\.\d+)?(?:e-?\d+)?)(?:\/(s|min|h))?$/.exec(text) ?? [];
  if (amount === undefined) {
    throw new MayflyError("invalid", `${quote(text)} is no price`, {
      where: "--price",
      hint: "Write dollars, as 0.045/h or 0.0000125/s, or PROVIDER=0.045/h for one provider.",
    });
  }
  return parsePrice(Number(amount) * perHour[unit]!, billingFrom(billing, provider));
}

function billingFrom(
  values: readonly string[] | undefined,
  provider: string,
): { quantumSeconds: number; minimumSeconds: number } {
  const text = flagFor(values, provider) ?? "1s";
  const [step = null, least = 0, ...more] = text.split(",").map(parseDuration);
  if (step === null || least === null || more.length > 0) {
    throw new MayflyError("invalid", `${quote(text)} is no way to bill`, {
      where: "--billing",
      hint: "Write the step, and the least after a comma: 1s,60s or 1h.",
    });
  }
  return { quantumSeconds: step, minimumSeconds: least };
}

/** A provider in a flag that no setting has is a slip of the pen. */
function refuseStrangers(settings: readonly Setting[], flags: SettingFlags): void {
  const known = new Set(settings.flatMap(({ providers }) => [...providers.keys()]));
  for (const flag of ["boot", "price", "billing"] as const) {
    for (const value of flags[flag] ?? []) {
      const name = /^([\w-]+)=/.exec(value)?.[1];
      if (name === undefined || known.has(name)) continue;
      throw new MayflyError("invalid", `there is no provider ${quote(name)}`, {
        where: `--${flag}`,
        hint: `The settings have ${[...known].join(", ")}.`,
      });
    }
  }
}
