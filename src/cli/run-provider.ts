import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { MayflyError, ProviderError } from "../domain/errors.ts";
import { listed, nearest, quote } from "../domain/words.ts";
import type { Log } from "../fleet/log.ts";
import type { Provider } from "../providers/provider.ts";
import { isFitForMachines, unconfigured } from "../providers/unconfigured.ts";

export interface ProviderPlaces {
  readonly installation: string;
  readonly stateFolder: string;
  readonly guestFolder: string;
  readonly log: Log;
  /** As in `ProviderContext`. */
  readonly stays?: () => void;
}

type Open = (typeof unconfigured)[keyof typeof unconfigured];

export interface Opened {
  readonly kind: string;
  readonly provider: Provider;
  /** What to know of the choice; null: nothing. */
  readonly warning: string | null;
}

/** The best first: a machine, a container, plain processes. */
const usable = Object.keys(unconfigured) as (keyof typeof unconfigured)[];

function folderOf({ stateFolder }: ProviderPlaces): string {
  return join(stateFolder, "providers");
}

const emulated =
  "machines are emulated here, many times slower than with KVM; `mayfly doctor` says why";

/** Opens a provider for runs of this state folder. Throws `ProviderError` when it cannot work. */
export async function openProvider(kind: string, places: ProviderPlaces): Promise<Provider> {
  const open = (unconfigured as Record<string, Open | undefined>)[kind];
  if (open === undefined) throw await unusable(kind);
  // Beside those of a server with the same state folder: what one learns of podman, both know.
  const folder = join(folderOf(places), kind);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return open({ name: kind, folder, now: () => Date.now(), ...places });
}

/**
 * The provider that was asked for, or the best that works here, ready for its first machine.
 * `progress` gets a line a step. Throws `unavailable` with what is missing.
 */
export async function chooseProvider(
  asked: string | null,
  places: ProviderPlaces,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<Opened> {
  if (asked !== null) {
    try {
      const provider = await ready(asked, places, progress, signal);
      const isEmulated = provider.lends().labels.includes("tcg");
      return { kind: asked, provider, warning: isEmulated ? emulated : null };
    } catch (error) {
      if (!(error instanceof ProviderError) || signal.aborted) throw error;
      throw nothingWorks(`the provider ${asked} does not work here: ${error.message}`);
    }
  }
  const faults: string[] = [];
  for (const kind of usable) {
    if (kind === "qemu" && !(await isFitForMachines(folderOf(places), signal))) continue;
    try {
      const provider = await ready(kind, places, progress, signal, kind !== "podman");
      const isBare = kind === "host";
      const why = faults.length === 0 ? "" : ` (no ${faults.join("; no ")})`;
      const warning = isBare ? `this runs as plain processes here, without isolation${why}` : null;
      return { kind, provider, warning };
    } catch (error) {
      if (!(error instanceof ProviderError) || signal.aborted) throw error;
      faults.push(`${kind}: ${error.message}`);
    }
  }
  throw nothingWorks(`no provider works here: ${faults.join("; ")}`);
}

async function ready(
  kind: string,
  places: ProviderPlaces,
  progress: (line: string) => void,
  signal: AbortSignal,
  isTried = false,
): Promise<Provider> {
  const provider = await openProvider(kind, places);
  try {
    // podman shows what it lacks by not getting ready.
    if (isTried) await refuseLacking(provider, signal);
    await provider.prepare(progress, signal);
    return provider;
  } catch (error) {
    await provider.close();
    throw error;
  }
}

/** Throws for what a provider finds missing. */
async function refuseLacking(provider: Provider, signal: AbortSignal): Promise<void> {
  const checks = await provider.check(signal);
  const lacking = checks.find(({ ok, isOptional }) => !ok && isOptional !== true);
  if (lacking === undefined) return;
  const { name, detail, mend } = lacking;
  const how = mend === null ? "" : `; ${mend}`;
  throw new ProviderError("invalid", `${name}: ${detail}${how}`);
}

async function unusable(kind: string): Promise<MayflyError> {
  const { providers } = await import("../providers/registry.ts");
  if (kind in providers) {
    return new MayflyError("invalid", `the provider ${kind} needs options, and a run has none`, {
      where: "--provider",
      hint: `Take another: ${listed(usable)}.`,
    });
  }
  const meant = nearest(kind, usable);
  return new MayflyError("invalid", `there is no provider ${quote(kind)}`, {
    where: "--provider",
    hint: meant === null ? `There are ${listed(usable)}.` : `Did you mean ${quote(meant)}?`,
  });
}

function nothingWorks(message: string): MayflyError {
  return new MayflyError("unavailable", message, {
    hint: "`mayfly doctor` tests each of them and says how to mend it.",
  });
}
