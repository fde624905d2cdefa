import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chance } from "./chance.ts";
import { randomWord } from "../fleet/names.ts";

const letters = 12;

/**
 * The name of this state folder among those of other replicas, made the first time: what tells
 * whether machines that some replica made here can be seen by this one too.
 */
export function placeName(stateFolder: string): string {
  const file = join(stateFolder, "place");
  const draft = `${file}.${process.pid}`;
  try {
    writeFileSync(draft, `${randomWord(chance, letters)}\n`);
    // Unlike a rename, a link never replaces what is there.
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readFileSync(file, "utf8").trim();
}
