import { execFileSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";

/** Lays the package out in a folder as it is shipped; returns its entry. */
export function bundle(folder: string): string {
  const root = join(import.meta.dirname, "..");
  const dist = join(folder, "dist");
  execFileSync(process.execPath, [join(root, "scripts/build.ts"), dist], { stdio: "ignore" });
  copyFileSync(join(root, "package.json"), join(folder, "package.json"));
  return join(dist, "mayfly.js");
}
