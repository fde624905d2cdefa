import { existsSync, mkdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { MayflyError } from "../domain/errors.ts";

/*
 * Where Mayfly's own files are. The state folder is the checkout's `.mayfly` when Mayfly runs from
 * a checkout, whatever the current folder: so a client called from anywhere finds the token of the
 * server that was started from the same checkout. An installed Mayfly keeps to the XDG folders.
 */

/** The folder of package.json, above the file that was started: a source, or the bundle. */
export function packageRoot(): string {
  let folder = dirname(realpathSync(process.argv[1] ?? "."));
  while (!existsSync(join(folder, "package.json"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error(`no package.json above ${process.argv[1]}`);
    folder = parent;
  }
  return folder;
}

export function isCheckout(root: string): boolean {
  return existsSync(join(root, ".git")) && existsSync(join(root, "src"));
}

export function version(): string {
  const text = readFileSync(join(packageRoot(), "package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

export function defaultStateFolder(environment: NodeJS.ProcessEnv): string {
  const { MAYFLY_STATE, XDG_STATE_HOME } = environment;
  if (MAYFLY_STATE !== undefined && MAYFLY_STATE !== "") return resolve(MAYFLY_STATE);
  const root = packageRoot();
  if (isCheckout(root)) return join(root, ".mayfly");
  // The specification wants relative values ignored.
  const base = XDG_STATE_HOME?.startsWith("/") === true ? XDG_STATE_HOME : undefined;
  return join(base ?? join(homedir(), ".local", "state"), "mayfly");
}

/**
 * Makes a folder for this user alone, and those above it. Node's own `recursive` never returns where
 * the kernel says that nothing can be made, as below /proc.
 */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && statSync(path).isDirectory()) return;
    if (code !== "ENOENT" || existsSync(dirname(path))) throw error;
    makeFolder(dirname(path));
    mkdirSync(path, { mode: 0o700 });
  }
}

/** The configuration to read: the one given, or mayfly.yaml here; null: there is none. */
export function configFile(
  given: string | undefined,
  environment: NodeJS.ProcessEnv,
): string | null {
  const named = given ?? environment["MAYFLY_CONFIG"];
  if (named !== undefined && named !== "") return named;
  if (existsSync("mayfly.yaml")) return "mayfly.yaml";
  if (!existsSync("mayfly.yml")) return null;
  throw new MayflyError(
    "invalid",
    "there is a mayfly.yml here, but it is mayfly.yaml that is read",
    {
      hint: "Rename it, or name it with --config.",
    },
  );
}

/** The token that a server on this machine keeps in its state folder. */
export function tokenFile(stateFolder: string): string {
  return join(stateFolder, "token");
}
