import { mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { openBroker } from "../broker/open.ts";
import type { Config } from "../config/config.ts";
import { MayflyError, ProviderError } from "../domain/errors.ts";
import { free } from "../domain/money.ts";
import type { Fleet } from "../fleet/api.ts";
import { SteadyClock, systemClock, type Clock } from "../fleet/clock.ts";
import { GuestTokens } from "../fleet/desk-tokens.ts";
import { createFleet } from "../fleet/fleet.ts";
import { Front, type FrontOutcome, type FrontParts } from "../fleet/front.ts";
import type { Log } from "../fleet/log.ts";
import { randomWord } from "../fleet/names.ts";
import { createDesks } from "../fleet/native-desks.ts";
import { ContentFolder } from "../forges/native/content-folder.ts";
import { NativeForge } from "../forges/native/native.ts";
import { NativeSources } from "../forges/native/sources.ts";
import type { ForgeContext } from "../forges/context.ts";
import type { Forge } from "../forges/forge.ts";
import { forges as forgeKinds } from "../forges/registry.ts";
import type { NativeOptions } from "../forges/native/options.ts";
import { guestProgram } from "../guest/program.ts";
import { providers as providerKinds } from "../providers/registry.ts";
import type { Provider, ProviderContext } from "../providers/provider.ts";
import { guestRunners, removeGuest } from "../store/guest.ts";
import { settingOnce } from "../store/settings.ts";
import { Store } from "../store/store.ts";
import { Metrics } from "../web/metrics.ts";
import { serve } from "../web/server.ts";
import { chance, newSecret } from "./chance.ts";
import { placeName } from "./place.ts";
import { keepSteady } from "./time.ts";

export interface Wired {
  readonly fleet: Fleet;
  readonly url: string;
  /** Stops taking, brings what is under way to an end, leaves machines to the next start. */
  stop(): Promise<void>;
}

export interface Surroundings {
  readonly config: Config;
  /** What a caller needs to change anything. */
  readonly token: string;
  readonly log: Log;
  readonly version: string;
  /** Told a line a step of what the first machines need before there can be any. */
  readonly progress: (line: string) => void;
  /** Gives up starting. */
  readonly signal: AbortSignal;
}

const installationLetters = 5;

/**
 * Builds the whole manager from a configuration and starts it. Throws `MayflyError` for what cannot
 * work: a held state folder, a store out of reach, an address that is taken. Nothing stays open then.
 */
export async function wire(surroundings: Surroundings): Promise<Wired> {
  const { config, token, log, version } = surroundings;
  const opened: (() => Promise<void>)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of opened.splice(0).reverse()) await close();
  };
  try {
    // Replicas take over their server's time instead.
    const steady = config.postgres === null ? new SteadyClock() : null;
    const store = await openStore(config, steady ?? systemClock);
    opened.push(() => store.close());
    if (steady !== null) {
      const stopWatching = await keepSteady(store, steady, log);
      opened.push(async () => stopWatching());
    }
    const installation = await setting(store, "installation", () =>
      randomWord(chance, installationLetters),
    );
    const tokens = new GuestTokens(await setting(store, "secret", newSecret));
    const guestFolder = join(config.stateFolder, "guest");
    mkdirSync(guestFolder, { recursive: true, mode: 0o711 });

    const providers = await openProviders(config, {
      installation,
      guestFolder,
      stateFolder: config.stateFolder,
      log,
    });
    for (const provider of providers.values()) opened.push(() => provider.close());
    await store.alignClock();
    const { now } = store;
    const clock = { ...systemClock, now };
    const metrics = new Metrics({ now, version });
    const native = nativeParts(config, store, now);
    const forges = await openForges(config, { installation, now, log, guestProgram });
    forges.set(native.forge.name, native.forge);
    const brokerOf =
      config.broker === null
        ? null
        : openBroker({ settings: config.broker, store, clock, log, forges });
    const served = { url: "" };
    const fleet = createFleet({
      store,
      clock,
      chance,
      log,
      observer: metrics.observer,
      forges,
      providers,
      pools: config.pools,
      installation,
      replica: `${hostname().slice(0, 40)}-${process.pid}-${randomWord(chance)}`,
      place: config.postgres === null ? undefined : placeName(config.stateFolder),
      timing: { leaseMs: config.leaseSeconds * 1000 },
      claimToken: (runner) => tokens.claim(runner),
      publicUrl: () => config.url ?? served.url,
      desks: (intake, pools) =>
        createDesks({
          store,
          clock,
          chance,
          intake,
          pools,
          forge: native.forge.name,
          tokens,
          sources: native.sources,
          artifacts: native.artifacts,
          forges,
          providers,
        }),
    });
    const broker = brokerOf?.({
      intake: fleet.intake,
      pools: fleet.pools,
      price: ({ provider, size }) => providers.get(provider)?.price(size) ?? free,
    });
    if (broker !== undefined) metrics.addBroker(broker);
    const { host, port } = config.listen;
    const server = await serve({
      fleet,
      listen: `${host.includes(":") ? `[${host}]` : host}:${port}`,
      token,
      guestSocket: join(guestFolder, "guest.sock"),
      log,
      now,
      version,
      metrics,
      broker,
    });
    served.url = server.url;
    opened.push(() => server.close());
    await prepare(providers, surroundings);
    opened.push(() => fleet.stop());
    await fleet.start();
    if (config.front !== null) {
      const front = await openFront(config.front, {
        intake: fleet.intake,
        clock,
        chance,
        log,
        metrics,
      });
      opened.push(() => front.stop());
    }
    opened.push(async () => server.drain());
    return { fleet, url: server.url, stop: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** Amazon's SDK takes a while to load, so only where there is a front. */
async function openFront(
  options: NonNullable<Config["front"]>,
  { metrics, ...parts }: Omit<FrontParts, "queue" | "took"> & { metrics: Metrics },
): Promise<Front> {
  const { openSqs } = await import("../fleet/front-sqs.ts");
  const took = (outcome: FrontOutcome): void => metrics.frontTook(outcome);
  const front = new Front({ ...parts, queue: openSqs(options), took });
  front.start();
  return front;
}

function openStore({ postgres, stateFolder }: Config, { now }: Pick<Clock, "now">): Promise<Store> {
  mkdirSync(stateFolder, { recursive: true, mode: 0o700 });
  if (postgres === null) return Store.open({ engine: "sqlite", folder: stateFolder }, now);
  return Store.open({ engine: "postgres", url: postgres.reveal() }, now);
}

function setting(store: Store, key: string, make: () => string): Promise<string> {
  return store.write((tx) => settingOnce(tx, key, make));
}

async function openProviders(
  config: Config,
  shared: Pick<ProviderContext, "installation" | "guestFolder" | "stateFolder" | "log">,
): Promise<ReadonlyMap<string, Provider>> {
  const open = new Map<string, Provider>();
  for (const { name, kind, options } of config.providers) {
    const folder = join(config.stateFolder, "providers", name);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const context = { ...shared, name, folder, now: systemClock.now };
    const known = providerKinds[kind];
    // The configuration was checked against the same registry.
    if (known === undefined) throw new MayflyError("invalid", `there is no provider ${kind}`);
    open.set(name, await known.open(options, context).catch((error) => cannotOpen(name, error)));
  }
  return open;
}

/** Those with a server; the native one is made of what is here. */
async function openForges(
  config: Config,
  shared: Omit<ForgeContext, "name">,
): Promise<Map<string, Forge>> {
  const open = new Map<string, Forge>();
  for (const { name, kind, options } of config.forges) {
    const known = forgeKinds[kind];
    if (known?.open !== undefined) open.set(name, await known.open(options, { ...shared, name }));
  }
  return open;
}

function cannotOpen(name: string, error: unknown): never {
  if (!(error instanceof ProviderError)) throw error;
  throw new MayflyError("unavailable", `provider ${name} cannot be opened: ${error.message}`, {
    hint: "`mayfly doctor` tests what it needs, and says how to mend it.",
  });
}

const prepareMs = 15 * 60_000;

/** What cannot be prepared holds up the jobs that need it, and no others: it is not fatal. */
async function prepare(
  providers: ReadonlyMap<string, Provider>,
  { log, progress, signal }: Surroundings,
): Promise<void> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(prepareMs)]);
  for (const [name, provider] of providers) {
    try {
      await provider.prepare((line) => progress(`${name}: ${line}`), within);
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ provider: name }, error instanceof Error ? error.message : String(error));
    }
  }
}

function nativeParts(
  { forges, stateFolder }: Config,
  store: Store,
  now: () => number,
): { forge: NativeForge; sources: NativeSources; artifacts: ContentFolder } {
  const configured = forges.find(({ kind }) => kind === "native");
  const name = configured?.name ?? "native";
  const options = (configured?.options ?? {}) as NativeOptions;
  const forge = new NativeForge({
    name,
    secret: options.secret?.reveal() ?? null,
    ledger: {
      guests: (forgeName) => guestRunners(store.db, forgeName),
      remove: (runner) => store.write((tx) => removeGuest(tx, runner)),
    },
    guestProgram,
    now,
  });
  const policy = { schemes: options.schemes, paths: options.paths };
  return {
    forge,
    sources: new NativeSources({ folder: stateFolder, policy, now }),
    artifacts: new ContentFolder(join(stateFolder, "artifacts"), "", now),
  };
}
