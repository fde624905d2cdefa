import type { Forge } from "../forges/forge.ts";
import type { Machine } from "../providers/provider.ts";
import { addFacts } from "../store/facts.ts";
import { endJobOf } from "../store/jobs.ts";
import { checkLease, type Lease } from "../store/leases.ts";
import { livingAmong, livingRunners } from "../store/questions.ts";
import { noteInterruption } from "../store/reruns.ts";
import { moveRunner } from "../store/runners.ts";
import { seeAgain } from "../store/sightings.ts";
import type { Store } from "../store/store.ts";
import { asProviderError, type Calls } from "./calls.ts";
import { within, type Clock } from "./clock.ts";
import type { Log } from "./log.ts";

export interface SweepParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a list may lag behind what a provider or forge has done, ms. */
  readonly lagMs: number;
}

const forgeCallMs = 60_000;

/**
 * Compares a provider's machines with our runners, both ways. What is amiss is only acted on when
 * a second listing shows it too: lists lag, and a machine that a listing forgot may run a job.
 */
export async function sweepProvider(
  parts: SweepParts,
  calls: Calls,
  lease: Lease,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = parts;
  const owner = calls.provider.name;
  // Read before listing: what we claim meanwhile is not missing.
  const askedBefore = clock.now() - parts.lagMs;
  const expected = await livingRunners(store.db, owner, ["asked", "up", "started"], askedBefore);
  const machines = await calls.list(signal);
  const byName = new Map(machines.map((machine) => [machine.name, machine]));
  const living = await livingAmong(store.db, [...byName.keys()]);

  const strays = machines.filter(({ name }) => !living.has(name)).map(({ name }) => name);
  const missing = expected.filter((name) => !byName.has(name));
  const exited = expected.filter((name) => byName.get(name)?.state === "ended");

  const takenBack = machines.filter(({ isInterrupted }) => isInterrupted === true);
  const again = await store.write(async (tx) => {
    await checkLease(tx, lease);
    // What a provider says it did needs no second look; and soon the forge may end it otherwise.
    for (const machine of takenBack) await noteInterruption(tx, machine.name, exitOf(machine));
    return {
      strays: await seeAgain(tx, "stray-machine", owner, strays, parts.lagMs),
      missing: await seeAgain(tx, "missing", owner, missing, parts.lagMs),
      exited: await seeAgain(tx, "exited", owner, exited, 0),
    };
  });
  for (const name of again.missing) {
    await endVanished(parts, lease, name, `${owner} shows no such machine any more`);
  }
  for (const name of again.exited) {
    await endVanished(parts, lease, name, exitOf(byName.get(name)));
  }
  for (const name of again.strays) await removeStray(parts, calls, lease, name, signal);
}

async function endVanished(
  { store, log }: SweepParts,
  lease: Lease,
  name: string,
  reason: string,
): Promise<void> {
  await store.write(async (tx) => {
    await checkLease(tx, lease);
    await moveRunner(tx, name, "ended", { reason });
    await endJobOf(tx, name, "lost", reason);
  });
  log.warn({ runner: name }, reason);
}

async function removeStray(
  { store, log }: SweepParts,
  calls: Calls,
  lease: Lease,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const owner = calls.provider.name;
  try {
    const outcome = await calls.destroy(name, signal);
    const reason = `${owner} held this machine, which no runner of ours claims: ${outcome}`;
    await store.write(async (tx) => {
      await checkLease(tx, lease);
      await addFacts(tx, [{ subjectKind: "runner", subject: name, kind: "swept", reason }]);
    });
    log.warn({ machine: name, provider: owner }, reason);
  } catch (error) {
    // It stays sighted, so the next sweep tries again.
    log.warn({ machine: name, error: asProviderError(error).message }, "stray not destroyed yet");
  }
}

/**
 * Takes over which of our runners a forge shows online, and removes registrations that belong to no
 * living runner, after a second sighting.
 */
export async function sweepForge(
  parts: SweepParts,
  forge: Forge,
  lease: Lease,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log } = parts;
  const registrations = await within(clock, forgeCallMs, signal, (until) =>
    forge.registrations(until),
  );
  const living = await livingAmong(
    store.db,
    registrations.map(({ name }) => name),
  );
  const strays = registrations.filter(({ name }) => !living.has(name)).map(({ name }) => name);
  const online = registrations.filter(({ name, online: isOnline }) => isOnline && living.has(name));
  const again = await store.write(async (tx) => {
    await checkLease(tx, lease);
    for (const { name } of online) {
      await moveRunner(tx, name, "up", { reason: `${forge.name} shows it online` });
    }
    return seeAgain(tx, "stray-registration", forge.name, strays, parts.lagMs);
  });
  for (const name of again) {
    const outcome = await within(clock, forgeCallMs, signal, (until) => forge.remove(name, until));
    // A busy one is asked about again and again: a forge may wait minutes for a runner that died.
    if (outcome === "gone")
      log.warn({ runner: name, forge: forge.name }, "stray registration: gone");
  }
}

function exitOf(machine: Machine | undefined): string {
  if (machine?.end !== undefined) return `its machine stopped: ${machine.end}`;
  const code = machine?.exitCode ?? null;
  return code === null
    ? "its machine stopped without a word"
    : `its machine stopped with status ${code} without a word`;
}
