import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Program } from "../../domain/program.ts";
import { runTool } from "../child.ts";
import { place, writeProgram } from "../program.ts";
import type { Machine, ProviderContext } from "../provider.ts";
import { isAlive, parseProcessId, type ProcessId } from "../processes.ts";

/** A machine whose supervisor has not shown up after this long never will. */
const startDeadlineMs = 60_000;

/** The variable by which a machine's processes are known wherever they went. */
export function markerOf(folder: string): string {
  return `MAYFLY_MACHINE=${folder}`;
}

/**
 * Writes all that the supervisor needs into a folder of another name and then gives it its own, so
 * that a machine's folder is whole or not there. False when there is one already; that one stays.
 */
export async function makeMachineFolder(
  folder: string,
  program: Program,
  context: ProviderContext,
): Promise<boolean> {
  const draft = draftOf(folder, randomBytes(6).toString("hex"));
  const { command, environment } = place(program, {
    program: join(folder, "program"),
    guest: join(context.guestFolder, "guest.sock"),
  });
  const defaults = {
    PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
    HOME: join(folder, "home"),
    TMPDIR: join(folder, "tmp"),
  };
  const variables = Object.entries({ ...defaults, ...environment }).map((pair) => pair.join("="));
  variables.push(markerOf(folder));
  await mkdir(draft, { mode: 0o700 });
  try {
    await mkdir(join(draft, "home"));
    await mkdir(join(draft, "tmp"));
    await writeProgram(join(draft, "program"), program);
    const write = (name: string, words: readonly string[]) =>
      writeFile(join(draft, name), words.map((word) => `${word}\0`).join(""), { mode: 0o600 });
    await write("command", command);
    await write("environment", variables);
    await writeFile(join(draft, "created"), `${context.now()}\n`);
    await rename(draft, folder);
    return true;
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOTEMPTY" || code === "EEXIST") return false;
    throw error;
  }
}

function draftOf(folder: string, suffix: string): string {
  const cut = folder.lastIndexOf("/") + 1;
  return `${folder.slice(0, cut)}.${folder.slice(cut)}.${suffix}`;
}

/** The supervisor of a machine; null when none has written its pid. */
export async function supervisorOf(folder: string): Promise<ProcessId | null> {
  return parseProcessId(await readText(join(folder, "pid")));
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
  const supervisor = await supervisorOf(folder);
  if (supervisor === null) {
    return { ...seen, state: now - made > startDeadlineMs ? "ended" : "booting" };
  }
  const alive = await isAlive(supervisor);
  const exit = /^(\d{1,3})\n$/.exec(await readText(join(folder, "exit")))?.[1];
  if (exit !== undefined) return { ...seen, state: "ended", exitCode: Number(exit) };
  return { ...seen, state: alive ? "running" : "ended" };
}

/** Removes the folder and every draft of it. False: something of it is still there. */
export async function removeMachineFolder(folder: string, signal: AbortSignal): Promise<boolean> {
  const cut = folder.lastIndexOf("/");
  const machines = folder.slice(0, cut);
  const draft = `.${folder.slice(cut + 1)}.`;
  const doomed = [folder];
  for (const entry of await readdir(machines)) {
    if (entry.startsWith(draft)) doomed.push(join(machines, entry));
  }
  for (const path of doomed) {
    const remove = () => rm(path, { recursive: true, force: true, maxRetries: 2 });
    await remove().catch(async () => {
      // A job may leave folders that nobody may write to (Go's module cache): ours to open.
      const environment = { PATH: "/usr/bin:/bin" };
      const mend = "install coreutils";
      await runTool("chmod", ["-R", "u+rwX", "--", path], { signal, environment, mend });
      await remove().catch(() => {});
    });
    if ((await stat(path).catch(() => null)) !== null) return false;
  }
  return true;
}

async function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}
