import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, realpath, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startOf } from "../providers/processes.ts";

/*
 * One folder a run, written before its machine is asked for: whoever comes later can tell from it
 * what a run that was killed has left behind.
 */

export interface RunNote {
  readonly provider: string;
  readonly machine: string;
  /** The process that runs it, which cannot be mistaken for a later one of the same number. */
  readonly pid: number;
  readonly since: string | null;
  /** Until when the machine was to stay after a failure, ms; null: it was not. */
  readonly keptUntil: number | null;
  /** What the machine's shell knocks with. */
  readonly door: string;
}

/**
 * The prefix of all machines that runs of this state folder make. By the folder, so that runs of
 * another one, on the same podman, are none of our business.
 */
export async function installationOf(stateFolder: string): Promise<string> {
  const real = await realpath(stateFolder);
  return `run${createHash("sha256").update(real).digest("hex").slice(0, 8)}`;
}

export class RunFolders {
  readonly path: string;

  constructor(stateFolder: string) {
    this.path = join(stateFolder, "runs");
  }

  of(machine: string): string {
    return join(this.path, machine);
  }

  /** Makes the folder of a run of this process; with its note or not at all. */
  async make(provider: string, machine: string, door: string): Promise<string> {
    const draft = join(this.path, `.${machine}`);
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    await mkdir(draft, { mode: 0o700 });
    const { pid } = process;
    const since = await startOf(pid);
    const note: RunNote = { provider, machine, pid, since, keptUntil: null, door };
    await writeFile(join(draft, "note.json"), JSON.stringify(note), { mode: 0o600 });
    await rename(draft, this.of(machine));
    return this.of(machine);
  }

  async keep(machine: string, until: number): Promise<void> {
    const note = await this.read(machine);
    if (note === null) return;
    const path = join(this.of(machine), "note.json");
    await writeFile(`${path}.new`, JSON.stringify({ ...note, keptUntil: until }), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  /** What is noted of a run; null: there is none. */
  async read(machine: string): Promise<RunNote | null> {
    const text = await readFile(join(this.of(machine), "note.json"), "utf8").catch(() => "null");
    try {
      return asNote(JSON.parse(text));
    } catch {
      return null;
    }
  }

  /** Runs whose process is gone and whose machine nobody wants any more. */
  async leftovers(now: number): Promise<RunNote[]> {
    const names = await readdir(this.path).catch(() => []);
    const found: RunNote[] = [];
    for (const name of names) {
      if (name.startsWith(".")) continue;
      const note = await this.read(name);
      if (note === null || note.machine !== name) continue;
      const isAlive = note.since !== null && (await startOf(note.pid)) === note.since;
      if (!isAlive && (note.keptUntil === null || note.keptUntil < now)) found.push(note);
    }
    return found;
  }

  async remove(machine: string): Promise<void> {
    await rm(this.of(machine), { recursive: true, force: true });
  }
}

/** The note as we wrote it; null: something else. Without a schema, which would take long to load. */
function asNote(value: unknown): RunNote | null {
  const { provider, machine, pid, since, keptUntil, door } = (value ?? {}) as Partial<RunNote>;
  const isNote =
    typeof provider === "string" &&
    typeof machine === "string" &&
    typeof pid === "number" &&
    (since === null || typeof since === "string") &&
    (keptUntil === null || typeof keptUntil === "number") &&
    typeof door === "string";
  return isNote ? { provider, machine, pid, since, keptUntil, door } : null;
}
