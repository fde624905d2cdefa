import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { runTool } from "./child.ts";

/*
 * A machine's folder on this host is there whole or not at all: it is written under another name,
 * of which a crash may leave a draft.
 */

function draftPrefix(folder: string): string {
  return `.${basename(folder)}.`;
}

/** Makes `folder` of what `fill` writes. False when there is one already; that one stays. */
export async function makeWhole(
  folder: string,
  fill: (draft: string) => Promise<void>,
): Promise<boolean> {
  const draft = join(dirname(folder), draftPrefix(folder) + randomBytes(6).toString("hex"));
  await mkdir(draft, { mode: 0o700 });
  try {
    await fill(draft);
    await rename(draft, folder);
    return true;
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOTEMPTY" || code === "EEXIST") return false;
    throw error;
  }
}

/** Removes the folder and every draft of it. False: something of it is still there. */
export async function removeWhole(folder: string, signal: AbortSignal): Promise<boolean> {
  const machines = dirname(folder);
  const drafts = (await readdir(machines)).filter((entry) => entry.startsWith(draftPrefix(folder)));
  for (const path of [folder, ...drafts.map((entry) => join(machines, entry))]) {
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

/** What a file of a machine's folder holds; nothing when it is not there. */
export function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}

/** How Perl is told a list of words that may hold anything but NUL. */
export function nulEnded(words: readonly string[]): string {
  return words.map((word) => `${word}\0`).join("");
}
