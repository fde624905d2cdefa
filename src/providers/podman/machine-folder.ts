import { readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Program } from "../../domain/program.ts";
import { digestOf, writeProgram, type Placed } from "../program.ts";
import { makeWhole, readText } from "../whole-folder.ts";
import { plainVariables } from "./arguments.ts";

/** Where a machine's files are on this host: `program/`, `environment`, `digest` and `cid`. */
export class MachineFolders {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  of(name: string): string {
    return join(this.path, name);
  }

  /**
   * Makes the machine's folder, whole or not at all. `found`: there is one of the same program.
   * `other`: there is one of another.
   */
  async make(
    name: string,
    program: Program,
    placed: Placed,
    owner: number | null,
  ): Promise<"made" | "found" | "other"> {
    const digest = digestOf(program);
    const isNew = await makeWhole(this.of(name), async (draft) => {
      await writeProgram(join(draft, "program"), program, owner);
      await writeFile(join(draft, "environment"), plainVariables(placed), { mode: 0o600 });
      await writeFile(join(draft, "digest"), digest);
    });
    if (isNew) return "made";
    return (await this.#read(name, "digest")) === digest ? "found" : "other";
  }

  /** The container's id, once podman has written it. */
  async cid(name: string): Promise<string | null> {
    const cid = (await this.#read(name, "cid")).trim();
    return /^[0-9a-f]{64}$/.test(cid) ? cid : null;
  }

  async forgetCid(name: string): Promise<void> {
    await rm(join(this.of(name), "cid"), { force: true });
  }

  /** Names of all machines that have a folder, and since when (ms). */
  async all(): Promise<Map<string, number>> {
    const names = await readdir(this.path);
    const found = new Map<string, number>();
    for (const name of names) {
      const since = name.startsWith(".") ? null : await stat(this.of(name)).catch(() => null);
      if (since !== null) found.set(name, Math.floor(since.mtimeMs));
    }
    return found;
  }

  async remove(name: string): Promise<void> {
    const drafts = (await readdir(this.path)).filter((entry) => entry.startsWith(`.${name}.`));
    for (const entry of [name, ...drafts]) {
      await rm(join(this.path, entry), { recursive: true, force: true });
    }
  }

  #read(name: string, file: string): Promise<string> {
    return readText(join(this.of(name), file));
  }
}
