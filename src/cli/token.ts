import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { MayflyError } from "../domain/errors.ts";
import { newSecret } from "./chance.ts";
import { makeFolder, tokenFile } from "./places.ts";

/**
 * The token in the state folder, for this user's eyes alone; made the first time. Two processes that
 * make it at once agree on one. Throws `unavailable` when it can be neither read nor made.
 */
export function localToken(stateFolder: string): string {
  const file = tokenFile(stateFolder);
  try {
    makeFolder(stateFolder);
    return read(file) ?? make(file);
  } catch (error) {
    if (error instanceof MayflyError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new MayflyError(
      "unavailable",
      `the state folder ${stateFolder} cannot be used: ${reason}`,
      {
        where: stateFolder,
        hint: "Give one that is yours to write to with --state.",
      },
    );
  }
}

function read(file: string): string | null {
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  if (/^\S{16,}$/.test(text)) return text;
  throw new MayflyError("invalid", "the token is no word of 16 characters or more", {
    where: file,
    hint: "Remove the file, and a new token is made.",
  });
}

function make(file: string): string {
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${newSecret()}\n`, { mode: 0o600, flush: true });
  try {
    // Unlike a rename, a link never replaces what another process has put there.
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return read(file) ?? "";
}
