import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  isAlive,
  parseProcessId,
  processesWith,
  signalProcess,
  type ProcessId,
} from "./processes.ts";
import type { Machine } from "./provider.ts";
import { readText } from "./whole-folder.ts";

/*
 * What is alike in machines of this host that a small program of ours stands over: it starts what
 * the machine is, writes its pid and the end into the machine's folder, and outlives the manager.
 */

/** A machine whose overseer has not shown up after this long never will have one. */
const startDeadlineMs = 60_000;

/** The variable by which a machine's processes are known wherever they went. */
export function markerOf(folder: string): string {
  return `MAYFLY_MACHINE=${folder}`;
}

/** The overseer of a machine; null when none has written its pid. */
export async function overseerOf(folder: string): Promise<ProcessId | null> {
  return parseProcessId(await readText(join(folder, "pid")));
}

/**
 * What a machine's folder says of it; null when there is none. `judge` says how one stands whose
 * overseer has shown up, and is told whether that one still lives.
 */
export async function describe(
  machines: string,
  name: string,
  now: number,
  judge: (folder: string, isAlive: boolean) => Promise<Partial<Machine> & Pick<Machine, "state">>,
): Promise<Machine | null> {
  const folder = join(machines, name);
  const made = Number.parseInt(await readText(join(folder, "created")), 10);
  if (!Number.isFinite(made)) {
    // Made whole or not at all, so this is one that is being removed.
    const found = await stat(folder).catch(() => null);
    if (found === null) return null;
    const createdAt = Math.floor(found.mtimeMs);
    return { name, state: "ended", handle: folder, createdAt, exitCode: null };
  }
  const seen = { name, handle: folder, createdAt: made, exitCode: null };
  const overseer = await overseerOf(folder);
  if (overseer === null) {
    return { ...seen, state: now - made > startDeadlineMs ? "ended" : "booting" };
  }
  // Whether it lives comes first: it writes its machine's end before it goes.
  const lives = await isAlive(overseer);
  return { ...seen, ...(await judge(folder, lives)) };
}

/**
 * Ends the overseer of the machine in `folder`, and so the machine. It does so when asked; one that
 * does not, because it is stopped, is killed after `politeMs`. False when it lives on after
 * `patienceMs`.
 */
export async function endOverseer(
  folder: string,
  { politeMs, patienceMs }: { politeMs: number; patienceMs: number },
  signal: AbortSignal,
): Promise<boolean> {
  const overseer = await overseerOf(folder);
  if (overseer === null) return true;
  for (let waitedMs = 0; waitedMs < patienceMs; waitedMs += 20) {
    if (!(await isAlive(overseer))) return true;
    if (waitedMs % 100 === 0) {
      signalProcess(overseer.pid, waitedMs < politeMs ? "SIGTERM" : "SIGKILL");
    }
    await sleep(20, undefined, { signal });
  }
  return false;
}

/** Kills what outlived its overseer; false when something is left after all. */
export async function endMarked(folder: string, signal: AbortSignal): Promise<boolean> {
  for (let tries = 0; tries < 50; tries += 1) {
    const left = await processesWith(markerOf(folder));
    if (left.length === 0) return true;
    for (const pid of left) signalProcess(pid, "SIGKILL");
    await sleep(20, undefined, { signal });
  }
  return false;
}
