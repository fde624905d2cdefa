import { join } from "node:path";
import { MayflyError } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";
import { Door } from "../executor/door.ts";
import { endMachine } from "../executor/run-machine.ts";
import { installationOf, RunFolders, type RunNote } from "../executor/run-folders.ts";
import { silentLog } from "../fleet/log.ts";
import { exit } from "./exit.ts";
import { openProvider, type ProviderPlaces } from "./run-provider.ts";
import { needsTerminal, useShell } from "./run-shell.ts";
import { Signals } from "./run-signals.ts";
import type { RunView } from "./run-view.ts";
import { note } from "./terminal.ts";

/** A kept machine knocks once a second. */
const knockMs = 15_000;

/** Removes what runs have left that were killed, and machines that were kept long enough. */
export async function sweepRuns(
  folders: RunFolders,
  places: ProviderPlaces,
  view: RunView,
): Promise<void> {
  for (const found of await folders.leftovers(Date.now())) {
    try {
      await endRun(folders, found, places);
      view.say(`removed ${found.machine}, which an earlier run had left`);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      view.warn(`${found.machine} of an earlier run is still there: ${why}`);
    }
  }
}

/** `mayfly run --end MACHINE`: ends one that was kept. */
export async function endKept(stateFolder: string, machine: string): Promise<number> {
  const folders = new RunFolders(stateFolder);
  const found = await findKept(folders, machine, "--end");
  const installation = await installationOf(stateFolder);
  const guestFolder = join(folders.of(machine), "guest");
  await endRun(folders, found, { installation, stateFolder, guestFolder, log: silentLog });
  note(`mayfly: ${machine} is gone`);
  return exit.ok;
}

/** `mayfly run --enter MACHINE`: a shell in one that was kept, which stays afterwards. */
export async function enterKept(stateFolder: string, machine: string): Promise<number> {
  const folders = new RunFolders(stateFolder);
  const { door: word } = await findKept(folders, machine, "--enter");
  needsTerminal("--enter");
  const door = new Door(word);
  const { serveDoor } = await import("./run-desk.ts");
  const server = await serveDoor(door, join(folders.of(machine), "guest", "guest.sock"));
  const signals = new Signals();
  try {
    const patience = AbortSignal.any([signals.stopped, AbortSignal.timeout(knockMs)]);
    const link = await door.open(patience);
    if (link === null && signals.stopped.aborted) return exit.interrupted;
    if (link === null) {
      throw new MayflyError("unavailable", `${machine} does not answer`, {
        hint: `Its time may be over; remove what is left: mayfly run --end ${machine}`,
      });
    }
    note(`mayfly: a shell in ${machine}, which stays (stuck? Ctrl-] three times)`);
    const { exitCode, hasLeft } = await useShell(link, signals.stopped);
    if (exitCode === null && !hasLeft) note(`mayfly: the shell was cut off from ${machine}`);
    return exitCode ?? (hasLeft ? exit.interrupted : exit.temporary);
  } finally {
    signals.close();
    await server.close();
  }
}

async function findKept(folders: RunFolders, machine: string, where: string): Promise<RunNote> {
  const found = /^[a-z0-9-]{1,63}$/.test(machine) ? await folders.read(machine) : null;
  if (found === null) {
    throw new MayflyError("not_found", `no run has a machine ${quote(machine)} here`, {
      where,
      hint: "It is over, or belongs to another state folder: give that with --state.",
    });
  }
  if (found.keptUntil === null && (await isRunning(folders, machine))) {
    throw new MayflyError("conflict", `${machine} is at work`, {
      where,
      hint: "Interrupt the `mayfly run` that it belongs to.",
    });
  }
  return found;
}

async function isRunning(folders: RunFolders, machine: string): Promise<boolean> {
  return !(await folders.leftovers(Date.now())).some((found) => found.machine === machine);
}

async function endRun(folders: RunFolders, found: RunNote, places: ProviderPlaces): Promise<void> {
  const provider = await openProvider(found.provider, places);
  try {
    await endMachine(provider, found.machine);
  } finally {
    await provider.close();
  }
  await folders.remove(found.machine);
}
