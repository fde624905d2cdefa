import { realpathSync } from "node:fs";
import { createRemote } from "../forges/native/remote.ts";
import { defaultServer } from "./client.ts";
import { exit } from "./exit.ts";
import type { CommonFlags } from "./program.ts";
import { readConfig, type PlaceFlags } from "./setting.ts";
import { note, painter, print } from "./terminal.ts";

export interface RemoteFlags extends CommonFlags, PlaceFlags {
  readonly server?: string;
}

/** `mayfly remote add`: a repository to push to, whose pushes become jobs. */
export async function run(name: string, flags: RemoteFlags): Promise<number> {
  const { stateFolder } = await readConfig(flags);
  const server = flags.server ?? process.env["MAYFLY_SERVER"] ?? defaultServer;
  const self = [process.execPath, realpathSync(process.argv[1] ?? "")];
  const remote = await createRemote({
    name,
    stateFolder,
    // Whoever pushes from anywhere finds the token of this state folder.
    mayfly: ["/usr/bin/env", `MAYFLY_STATE=${stateFolder}`, ...self],
    server,
  });
  if (flags.json) {
    await print(JSON.stringify(remote));
    return exit.ok;
  }
  await print(remote.path);
  const paint = painter(process.stderr);
  note(
    paint(
      "dim",
      `mayfly: ${remote.isNew ? "made" : "it was there, and is kept"}; in your repository:`,
    ),
  );
  note(`  git remote add mayfly ${remote.path}`);
  note(`  git push mayfly HEAD`);
  return exit.ok;
}
