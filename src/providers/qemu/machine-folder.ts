import { open, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Machine } from "../provider.ts";
import { makeWhole, nulEnded, readText } from "../whole-folder.ts";

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

/** Writes all that the keeper needs. False when there is a folder already; that one stays. */
export function makeMachineFolder(folder: string, orders: Orders): Promise<boolean> {
  const settings = Object.entries(orders.settings).map((pair) => pair.join("="));
  return makeWhole(folder, async (draft) => {
    const write = (name: string, text: string) =>
      writeFile(join(draft, name), text, { mode: 0o600, flag: "wx" });
    await write("command", nulEnded(orders.command));
    await write("settings", nulEnded(settings));
    await write("program", orders.program);
    await write("created", `${orders.createdAt} ${orders.memoryMb}\n`);
    if (orders.scratchBytes !== null) await makeScratch(draft, orders.scratchBytes);
  });
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

/** How a machine stands whose keeper has shown up. */
export async function judge(
  folder: string,
  isAlive: boolean,
): Promise<Partial<Machine> & Pick<Machine, "state">> {
  const end = await endOf(folder);
  if (end?.how === "exit") return { state: "ended", exitCode: end.exitCode };
  if (end !== null || !isAlive) return { state: "ended", end: endWords(end) };
  const given = await stat(join(folder, "given")).catch(() => null);
  return { state: given === null ? "booting" : "running" };
}

/** The memory that a machine may take while it lives, in MB. */
export async function memoryOf(folder: string): Promise<number> {
  const [, memoryMb] = (await readText(join(folder, "created"))).split(" ");
  return Number.parseInt(memoryMb ?? "0", 10) || 0;
}
