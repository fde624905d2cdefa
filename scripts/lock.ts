/*
 * Writes package-lock.json from package.json: `npm run lock`. npm is run by our own Node, because
 * under an older one it quietly locks older releases that still support that.
 *
 * A mirror may lack the builds of a package for other platforms; npm then leaves them out, and
 * `npm ci` calls such a lockfile out of step. They are added here as their package names them, the
 * one thing without a digest: no platform that the mirror serves ever fetches one.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname } from "node:path";

interface Locked {
  version: string;
  integrity?: string;
  optionalDependencies?: Record<string, string>;
  [field: string]: unknown;
}
interface Lockfile {
  packages: Record<string, Locked>;
}

const libraries: Readonly<Record<string, string>> = {
  gnu: "glibc",
  gnueabihf: "glibc",
  musl: "musl",
  musleabihf: "musl",
};

// npm runs on the first node of the PATH.
const PATH = [dirname(process.execPath), process.env["PATH"]].join(delimiter);
execFileSync("npm", ["install", "--package-lock-only", "--ignore-scripts", "--loglevel=error"], {
  env: { ...process.env, PATH },
  stdio: "inherit",
});
const lockfile = JSON.parse(readFileSync("package-lock.json", "utf8")) as Lockfile;
const added = complete(lockfile.packages);
writeFileSync("package-lock.json", `${JSON.stringify(lockfile, null, 2)}\n`);
console.log(`package-lock.json is written, with ${added} builds that the registry does not have`);

/** Adds what optional dependencies are missing, in npm's order; returns how many. */
function complete(packages: Record<string, Locked>): number {
  const missing = Object.values(packages).flatMap((parent) =>
    Object.entries(parent.optionalDependencies ?? {})
      .filter(([name]) => packages[`node_modules/${name}`] === undefined)
      .map(([name, version]): [string, Locked] => [
        `node_modules/${name}`,
        { version, ...platform(name), dev: true, license: parent["license"], optional: true },
      ]),
  );
  const all = [...Object.entries(packages), ...missing];
  const sorted = all.toSorted(([a], [b]) => a.localeCompare(b, "en"));
  for (const path of Object.keys(packages)) delete packages[path];
  Object.assign(packages, Object.fromEntries(sorted));
  return missing.length;
}

/** What `@scope/binding-linux-x64-musl` says of itself by its name. */
function platform(name: string): { os: string[]; cpu: string[]; libc?: string[] } {
  const [, os, cpu, abi] = /\/(?:binding-)?([a-z]+\d*)-([a-z0-9]+)(?:-([a-z]+))?$/.exec(name) ?? [];
  if (os === undefined || cpu === undefined) throw new Error(`which platform is ${name} for?`);
  const library = libraries[abi ?? ""];
  return { os: [os], cpu: [cpu], ...(os === "linux" && library ? { libc: [library] } : {}) };
}
