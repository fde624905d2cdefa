import { z } from "zod";
import { architectureLabel, brokerForge, type BrokerSettings } from "../domain/broker.ts";
import { checkTemplate, isArchitectureName } from "../domain/broker-label.ts";
import { MayflyError } from "../domain/errors.ts";
import type { Pool } from "../domain/pool.ts";
import type { Size } from "../domain/size.ts";
import { listed, nearest, quote } from "../domain/words.ts";
import type { Fault } from "./document.ts";
import type { ConfigFile, Kinds } from "./schema.ts";
import { duration } from "./units.ts";

const repository = z
  .string()
  .max(200)
  .regex(/^[A-Za-z0-9_.-]{1,100}\/[A-Za-z0-9_.-]{1,100}$/, "a repository, written owner/name");
const count = z.int().min(1).max(10_000);

/** The section `broker`. */
export const brokerSchema = z.strictObject({
  forge: z
    .string()
    .optional()
    .describe("Whose runs may borrow: a name under `forges`. Default: the only one."),
  repositories: z
    .array(repository)
    .min(1)
    .max(50)
    .meta({ examples: [["acme/rocket"]] })
    .optional()
    .describe(
      "Those whose runs may borrow, as owner/name. Default: the forge's, where it is for one alone.",
    ),
  label: z
    .string()
    .max(60)
    .optional()
    .meta({ examples: ["mayfly_{run}_{attempt}"] })
    .describe(
      "How a label reads: words, with {run} and {attempt} of the run, and {id} for what the workflow chose. Default: `mayfly_{run}_{attempt}`.",
    ),
  workflows: z
    .array(z.string().min(1).max(200))
    .max(50)
    .meta({ examples: [["build.yml"]] })
    .optional()
    .describe("File names of the workflows whose runs may borrow. Default: all."),
  pools: z
    .record(z.string(), z.string())
    .optional()
    .describe(
      "The pool of each architecture that may be asked for: `x86_64: POOL`. Default: the only pool, by its architecture.",
    ),
  perRun: count
    .optional()
    .describe("Machines of each architecture for one attempt of a run. Default: 1."),
  perRepository: count.optional().describe("Machines lent to one repository at once. Default: 10."),
  perAddress: count.optional().describe("Machines lent to one address in an hour. Default: 20."),
  perHour: count.optional().describe("Machines lent in an hour, to all. Default: 100."),
  usdPerDay: z
    .number()
    .min(0)
    .max(1_000_000)
    .optional()
    .describe("What may be spent on a day (UTC), in US dollars. Default: 10."),
  answer: duration("10m")
    .optional()
    .describe("By when all runners of an order are registered, or it is given up. Default: 10m."),
  wait: duration("15m")
    .optional()
    .describe("How long a lent machine waits for its job. Default: 15m."),
});

const defaults = {
  label: "mayfly_{run}_{attempt}",
  perRun: 1,
  perRepository: 10,
  perAddress: 20,
  perHour: 100,
  usdPerDay: 10,
  answerSeconds: 600,
  waitSeconds: 900,
};
/** What programs call the architectures of machines: uname, and rr's workflows. */
const architectureWords = { x64: "x86_64", arm64: "arm64" } as const;
const microUsd = 1_000_000;

/** What is wrong with the section, beside its form. */
export function brokerFaults(file: ConfigFile, kinds: Kinds, machine: Size): Fault[] {
  const { broker } = file;
  if (broker === undefined) return [];
  const faults: Fault[] = [];
  const fault = (path: readonly string[], message: string): void =>
    void faults.push({ path: ["broker", ...path], message });
  forgeFault(file, kinds, fault);
  if (repositoriesOf(file).length === 0) {
    fault([], 'lends to no repository; add "repositories: [owner/name]"');
  }
  const pools = file.pools ?? {};
  const lent = poolsOf(file, machine);
  if (Object.keys(lent).length === 0) {
    fault([], 'does not say whose machines it lends; add "pools: { x86_64: POOL }"');
  }
  for (const [architecture, pool] of Object.entries(lent)) {
    const path = ["pools", architecture];
    if (!isArchitectureName(architecture)) {
      fault(path, "is no architecture; take a-z, 0-9 and _, at most 20 of them");
    }
    const settings = pools[pool];
    if (settings === undefined && !(file.pools === undefined && pool === "default")) {
      const meant = nearest(pool, Object.keys(pools));
      const known = Object.keys(pools);
      const hint =
        meant === null ? `known are ${listed(known, 20)}` : `did you mean ${quote(meant)}?`;
      fault(path, `there is no pool ${quote(pool)}; ${hint}`);
      continue;
    }
    if (settings?.labels !== undefined) {
      faults.push({
        path: ["pools", pool, "labels"],
        message: "the broker gives this pool its labels; leave them out",
      });
    }
    const owner = settings?.forge;
    if (owner !== undefined && owner !== brokerForge && owner !== forgeOf(file)) {
      const message = "its machines are lent by the broker, at another forge; leave it out";
      faults.push({ path: ["pools", pool, "forge"], message });
    }
  }
  try {
    checkTemplate(broker.label ?? defaults.label);
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error;
    fault(["label"], `${error.message}; write it like mayfly_{run}_{attempt} or rr_runner_{id}`);
  }
  return faults;
}

function forgeFault(
  file: ConfigFile,
  kinds: Kinds,
  fault: (path: readonly string[], message: string) => void,
): void {
  const forges = file.forges ?? {};
  const names = Object.keys(forges);
  if (names.includes(brokerForge)) {
    fault([], `a forge is called ${quote(brokerForge)} too; give it another name`);
  }
  const name = forgeOf(file);
  if (name === null) {
    const hint = names.length === 0 ? "configure one under `forges`" : 'add "forge: NAME"';
    return fault([], `does not say at which forge its runs are; ${hint}`);
  }
  const entry = forges[name];
  if (entry === undefined) {
    const meant = nearest(name, names);
    const hint =
      meant === null ? `known are ${listed(names, 20)}` : `did you mean ${quote(meant)}?`;
    return fault(["forge"], `there is no forge ${quote(name)}; ${hint}`);
  }
  const kind = Object.keys(entry)[0] ?? "";
  if (kind === "native" || !Object.hasOwn(kinds.forges, kind)) {
    fault(["forge"], `${quote(name)} has no runs to lend to; name a GitHub, Gitea or Forgejo`);
  }
}

function forgeOf({ broker, forges }: ConfigFile): string | null {
  if (broker?.forge !== undefined) return broker.forge;
  const served = Object.entries(forges ?? {}).filter(([, entry]) => !("native" in entry));
  return served.length === 1 ? (served[0]?.[0] ?? null) : null;
}

/** Those named, or the one that the forge is for alone: by its address, or by its scope. */
function repositoriesOf(file: ConfigFile): readonly string[] {
  if (file.broker?.repositories !== undefined) return [...new Set(file.broker.repositories)];
  const entry = file.forges?.[forgeOf(file) ?? ""];
  const options = Object.values(entry ?? {})[0] as { url?: unknown; scope?: unknown } | undefined;
  const scope = typeof options?.scope === "string" ? options.scope : pathOf(options?.url);
  return repository.safeParse(scope).success ? [scope] : [];
}

function pathOf(url: unknown): string {
  if (typeof url !== "string" || !URL.canParse(url)) return "";
  return new URL(url).pathname.replace(/^\/|\/$/g, "").replace(/\.git$/, "");
}

function poolsOf({ broker, pools }: ConfigFile, machine: Size): Readonly<Record<string, string>> {
  if (broker?.pools !== undefined) return broker.pools;
  const [name = "default", more] = Object.keys(pools ?? {});
  if (more !== undefined) return {};
  const architecture = pools?.[name]?.size?.architecture ?? machine.architecture;
  return { [architectureWords[architecture]]: name };
}

/** The section with every default filled in; null: there is none. Of a file without faults. */
export function buildBroker(file: ConfigFile, machine: Size): BrokerSettings | null {
  const { broker } = file;
  if (broker === undefined) return null;
  return {
    forge: forgeOf(file) ?? "",
    repositories: repositoriesOf(file),
    label: broker.label ?? defaults.label,
    workflows: broker.workflows ?? [],
    pools: poolsOf(file, machine),
    perRun: broker.perRun ?? defaults.perRun,
    perRepository: broker.perRepository ?? defaults.perRepository,
    perAddress: broker.perAddress ?? defaults.perAddress,
    perHour: broker.perHour ?? defaults.perHour,
    microUsdPerDay: Math.round((broker.usdPerDay ?? defaults.usdPerDay) * microUsd),
    answerSeconds: broker.answer ?? defaults.answerSeconds,
    waitSeconds: broker.wait ?? defaults.waitSeconds,
  };
}

/**
 * The pools, of which the broker's are its own: they serve its forge, offer its architectures, and
 * let a machine that no job wants go at once, since nobody else's job may have it.
 */
export function brokerPools(
  pools: readonly Pool[],
  broker: BrokerSettings | null,
  file: ConfigFile,
): Pool[] {
  return pools.map((pool) => {
    const architectures = Object.entries(broker?.pools ?? {})
      .filter(([, name]) => name === pool.name)
      .map(([architecture]) => architecture);
    if (architectures.length === 0) return pool;
    return {
      ...pool,
      forge: brokerForge,
      labels: architectures.map(architectureLabel),
      idleSeconds: file.pools?.[pool.name]?.idle ?? 0,
    };
  });
}

/** What would make every order be refused, and is no mistake for certain. */
export function brokerWarnings(pools: readonly Pool[], broker: BrokerSettings | null): string[] {
  if (broker === null || broker.label.includes("{run}")) return [];
  const lent = pools.filter(({ forge }) => forge === brokerForge);
  return lent
    .filter(({ accept }) => !accept.includes("fork"))
    .map(
      ({ name }) =>
        `the broker's labels name no run, so nobody can say whose code comes: pool ${name} refuses it unless it has "accept: [trusted, fork]"`,
    );
}
