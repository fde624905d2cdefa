import { setTimeout as sleep } from "node:timers/promises";
import { isAlive, processesWith, signalProcess } from "../processes.ts";
import { keeperOf, markerOf } from "./machine-folder.ts";

/** How long a keeper is waited for. */
const patienceMs = 8_000;

/** Ends the keeper of the machine in `folder`, and so its QEMU; false when it does not end. */
export async function endKeeper(folder: string, signal: AbortSignal): Promise<boolean> {
  const keeper = await keeperOf(folder);
  if (keeper === null) return true;
  for (let waitedMs = 0; waitedMs < patienceMs; waitedMs += 20) {
    if (!(await isAlive(keeper))) return true;
    // It ends its QEMU when asked; one that does not, because it is stopped, is killed.
    if (waitedMs % 200 === 0) {
      signalProcess(keeper.pid, waitedMs < patienceMs - 2_000 ? "SIGTERM" : "SIGKILL");
    }
    await sleep(20, undefined, { signal });
  }
  return false;
}

/** Kills what outlived its keeper, if anything could; false when something is left after all. */
export async function endMarked(folder: string, signal: AbortSignal): Promise<boolean> {
  for (let tries = 0; tries < 50; tries += 1) {
    const left = await processesWith(markerOf(folder));
    if (left.length === 0) return true;
    for (const pid of left) signalProcess(pid, "SIGKILL");
    await sleep(20, undefined, { signal });
  }
  return false;
}
