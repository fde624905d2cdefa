import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Machine } from "../provider.ts";
import { isAlive, parseProcessId, type ProcessId } from "../processes.ts";

/** A machine whose keeper has not shown up after this long never will have one. */
const startDeadlineMs = 60_000;

/** The variable by which a machine's keeper and its QEMU are known. */
export function markerOf(folder: string): string {
  return `MAYFLY_MACHINE=${folder}`;
}

/** What the keeper is told; see `keeper.pl`. */
export interface Orders {
  readonly command: readonly string[];
  readonly settings: Readonly<Record<string, string>>;
  /** An object as JSON. */
  readonly program: string;
  /** The size of the scratch disk, a file with holes; null: none. */
  readonly scratchBytes: number | null;
  readonly createdAt: number;
  readonly memoryMb: number;
}

/** The scratch disk's name in a machine's folder, where its QEMU runs. */
export const scratchName = "scratch";

/** Makes the scratch disk: all holes, so that it takes no room before it is written to. */
export async function makeScratch(folder: string, bytes: number): Promise<void> {
  const scratch = await open(join(folder, scratchName), "wx", 0o600);
  try {
    await scratch.truncate(bytes);
  } finally {
    await scratch.close();
  }
}

/**
 * Writes all that the keeper needs into a folder of another name and then gives it its own, so that
 * a machine's folder is whole or not there. False when there is one already; that one stays.
 */
export async function makeMachineFolder(folder: string, orders: Orders): Promise<boolean> {
  const cut = folder.lastIndexOf("/") + 1;
  const suffix = randomBytes(6).toString("hex");
  const draft = `${folder.slice(0, cut)}.${folder.slice(cut)}.${suffix}`;
  const settings = Object.entries(orders.settings).map((pair) => pair.join("="));
  const words = (list: readonly string[]): string => list.map((word) => `${word}\0`).join("");
  const write = (name: string, text: string) =>
    writeFile(join(draft, name), text, { mode: 0o600, flag: "wx" });
  await mkdir(draft, { mode: 0o700 });
  try {
    await write("command", words(orders.command));
    await write("settings", words(settings));
    await write("program", orders.program);
    await write("created", `${orders.createdAt} ${orders.memoryMb}\n`);
    if (orders.scratchBytes !== null) await makeScratch(draft, orders.scratchBytes);
    await rename(draft, folder);
    return true;
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOTEMPTY" || code === "EEXIST") return false;
    throw error;
  }
}

/** The keeper of a machine; null when none has written its pid. */
export async function keeperOf(folder: string): Promise<ProcessId | null> {
  return parseProcessId(await readText(join(folder, "pid")));
}

/** How a machine ended: in what way, its program's exit status, and in words. */
export interface End {
  readonly how: string;
  readonly exitCode: number | null;
  readonly words: string;
}

/** What the keeper wrote of the end; null when it has not. */
export async function endOf(folder: string): Promise<End | null> {
  const [, how, code, words] =
    /^([a-z]+) (\d{1,3}|-) ([\x20-\x7e]*)\n$/.exec(await readText(join(folder, "end"))) ?? [];
  if (how === undefined || words === undefined) return null;
  return { how, exitCode: code === "-" ? null : Number(code), words };
}

const endings: Readonly<Record<string, string>> = {
  failed: "its program could not be run",
  panic: "its kernel panicked",
  boot: "it did not boot",
  protocol: "it broke the protocol of its channel",
  lost: "it was lost",
  stopped: "it was stopped",
  qemu: "QEMU could not run it",
};

/** The end of a machine in words; null: nothing was noted. */
export function endWords(end: End | null): string {
  if (end === null) return "it was lost: its keeper was killed";
  if (end.how === "deadline") return `it was ${end.words}`;
  return `${endings[end.how] ?? end.how}: ${end.words}`;
}

/** What a machine's folder says of it; null when there is none. */
export async function describe(
  machines: string,
  name: string,
  now: number,
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
  const keeper = await keeperOf(folder);
  if (keeper === null) {
    return { ...seen, state: now - made > startDeadlineMs ? "ended" : "booting" };
  }
  // Whether it lives comes first: it writes its end before it goes.
  const alive = await isAlive(keeper);
  const end = await endOf(folder);
  if (end?.how === "exit") return { ...seen, state: "ended", exitCode: end.exitCode };
  if (end !== null || !alive) return { ...seen, state: "ended", end: endWords(end) };
  const given = await stat(join(folder, "given")).catch(() => null);
  return { ...seen, state: given === null ? "booting" : "running" };
}

/** The memory that a machine may take while it lives, in MB. */
export async function memoryOf(folder: string): Promise<number> {
  const [, memoryMb] = (await readText(join(folder, "created"))).split(" ");
  return Number.parseInt(memoryMb ?? "0", 10) || 0;
}

/** Removes the folder and every draft of it. False: something of it is still there. */
export async function removeMachineFolder(folder: string): Promise<boolean> {
  const cut = folder.lastIndexOf("/");
  const machines = folder.slice(0, cut);
  const draft = `.${folder.slice(cut + 1)}.`;
  const drafts = (await readdir(machines)).filter((entry) => entry.startsWith(draft));
  for (const path of [folder, ...drafts.map((entry) => join(machines, entry))]) {
    await rm(path, { recursive: true, force: true, maxRetries: 2 }).catch(() => {});
    if ((await stat(path).catch(() => null)) !== null) return false;
  }
  return true;
}

async function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}
