import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Program } from "../../domain/program.ts";
import { markerOf } from "../overseer.ts";
import { place, writeProgram } from "../program.ts";
import type { Machine, ProviderContext } from "../provider.ts";
import { makeWhole, nulEnded, readText } from "../whole-folder.ts";

/** Writes all that the supervisor needs. False when there is a folder already; that one stays. */
export async function makeMachineFolder(
  folder: string,
  program: Program,
  context: ProviderContext,
): Promise<boolean> {
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
  return makeWhole(folder, async (draft) => {
    await mkdir(join(draft, "home"));
    await mkdir(join(draft, "tmp"));
    await writeProgram(join(draft, "program"), program);
    const write = (name: string, words: readonly string[]) =>
      writeFile(join(draft, name), nulEnded(words), { mode: 0o600 });
    await write("command", command);
    await write("environment", variables);
    await writeFile(join(draft, "created"), `${context.now()}\n`);
  });
}

/** How a machine stands whose supervisor has shown up. */
export async function judge(
  folder: string,
  isAlive: boolean,
): Promise<Pick<Machine, "state" | "exitCode">> {
  const exit = /^(\d{1,3})\n$/.exec(await readText(join(folder, "exit")))?.[1];
  if (exit !== undefined) return { state: "ended", exitCode: Number(exit) };
  return { state: isAlive ? "running" : "ended", exitCode: null };
}
