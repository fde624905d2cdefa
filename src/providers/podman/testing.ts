import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fitness } from "./fitness.ts";
import { podmanOptions } from "./options.ts";
import { open } from "./podman.ts";
import { findPowers, type Powers } from "./powers.ts";

const never = new AbortController().signal;

/** What tests with containers begin with. */
export interface Readiness {
  /** Why there can be none here. */
  readonly skip: string | false;
  readonly powers: Powers | null;
  /** What was found out of podman, as a provider's folder holds it. */
  readonly found: string;
}

/** Makes the base image if need be, so that no test has to wait for it. */
export async function podmanForTests(): Promise<Readiness> {
  const folder = await mkdtemp(join(tmpdir(), "mayfly-podman-"));
  const folders = { folder, guestFolder: join(folder, "g"), stateFolder: folder };
  const log = { info: () => {}, warn: () => {} };
  const context = { name: "podman", installation: "t", ...folders, now: () => Date.now(), log };
  try {
    const fault = await fitness(folder, never);
    if (fault !== null) return { skip: fault, powers: null, found: "" };
    const provider = await open(podmanOptions.parse({}), context);
    await provider.prepare((line) => console.log(`# ${line}`), never);
    await provider.close();
    const found = await readFile(join(folder, "powers.json"), "utf8");
    return { skip: false, powers: await findPowers(folder, never), found };
  } catch (error) {
    const skip = `podman does not work here: ${(error as Error).message}`;
    return { skip, powers: null, found: "" };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
