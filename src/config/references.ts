import { brokerForge } from "../domain/broker.ts";
import { listed, nearest, quote } from "../domain/words.ts";
import type { Part } from "./config.ts";
import type { Fault } from "./document.ts";
import type { ConfigFile, Kind, Kinds, PoolFile } from "./schema.ts";

/*
 * Pools name a forge and a provider: one that the file configures, or a kind by itself, which then
 * has its default options. A pool that names none takes the only one there is.
 */

const roles = ["forge", "provider"] as const;
type Role = (typeof roles)[number];

/** The provider that a configuration without any gets. */
export interface DefaultProvider {
  readonly kind: string;
  /** What a person should know of the choice. */
  readonly warning: string | null;
}

export interface Parts {
  readonly forges: readonly Part[];
  readonly providers: readonly Part[];
  /** What a pool takes that names none. */
  readonly defaults: Readonly<Record<Role, string>>;
  readonly warnings: readonly string[];
}

/** Pools whose forge or provider is not there or not clear; also of a file with other faults. */
export function referenceFaults(plain: unknown, kinds: Kinds): Fault[] {
  return entries(inner(plain, "pools")).flatMap(([pool, settings]) =>
    roles.flatMap((role): Fault[] => {
      const configured = entries(inner(plain, `${role}s`)).map(([name]) => name);
      const named = inner(settings, role);
      // The broker's pools serve its forge whatever else there is.
      if (role === "forge" && isOfBroker(plain, pool, named)) return [];
      if (typeof named === "string") {
        const message = nameFault(named, role, configured, kinds[`${role}s`]);
        return message === null ? [] : [{ path: ["pools", pool, role], message }];
      }
      if (named !== undefined || configured.length < 2) return [];
      const message = `has no ${role}, and there are several; add "${role}: ${configured[0]}" or another`;
      return [{ path: ["pools", pool], message }];
    }),
  );
}

function isOfBroker(plain: unknown, pool: string, named: unknown): boolean {
  const lent = entries(inner(inner(plain, "broker"), "pools")).map(([, name]) => name);
  return named === undefined ? lent.includes(pool) : named === brokerForge && lent.includes(pool);
}

function nameFault(
  name: string,
  role: Role,
  configured: readonly string[],
  kinds: Readonly<Record<string, Kind>>,
): string | null {
  if (configured.includes(name)) return null;
  const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  if (kind !== undefined) {
    if (kind.options.safeParse({}).success) return null;
    return `${quote(name)} needs options; give them under ${role}s`;
  }
  const known = [...new Set([...configured, ...Object.keys(kinds)])];
  const meant = nearest(name, known);
  const hint = meant === null ? `known are ${listed(known, 20)}` : `did you mean ${quote(meant)}?`;
  return `there is no ${role} ${quote(name)}; ${hint}`;
}

/** Every forge and provider to open: those configured, and kinds that pools name by themselves. */
export async function resolveParts(
  file: ConfigFile,
  kinds: Kinds,
  detect: () => Promise<DefaultProvider>,
): Promise<Parts> {
  const pools: readonly PoolFile[] = Object.values(file.pools ?? { default: {} });
  const forges = configured(file.forges);
  const providers = configured(file.providers);
  const forge = forges[0]?.name ?? "native";
  const needsDefault =
    providers.length === 0 && pools.some(({ provider }) => provider === undefined);
  const detected = needsDefault ? await detect() : null;
  const provider = providers[0]?.name ?? detected?.kind ?? "";
  const named = (role: Role, fallback: string) => pools.map((pool) => pool[role] ?? fallback);
  const forgesNamed = named("forge", forge).filter((name) => name !== brokerForge);
  return {
    forges: [...forges, ...implied(forgesNamed, forges, kinds.forges)],
    providers: [...providers, ...implied(named("provider", provider), providers, kinds.providers)],
    defaults: { forge, provider },
    warnings: [detected?.warning ?? []].flat(),
  };
}

function configured(entriesByName: Readonly<Record<string, unknown>> | undefined): Part[] {
  return entries(entriesByName).map(([name, entry]) => {
    const [kind, options] = entries(entry)[0] as [string, unknown];
    return { name, kind, options };
  });
}

function implied(names: readonly string[], parts: readonly Part[], kinds: Kinds["forges"]): Part[] {
  const missing = new Set(names.filter((name) => parts.every((part) => part.name !== name)));
  return [...missing].map((kind) => ({
    name: kind,
    kind,
    options: kinds[kind]?.options.parse({}),
  }));
}

export function entries(value: unknown): [string, unknown][] {
  const isMap = typeof value === "object" && value !== null && !Array.isArray(value);
  return isMap ? Object.entries(value) : [];
}

export function inner(value: unknown, key: string): unknown {
  return entries(value).find(([name]) => name === key)?.[1];
}
