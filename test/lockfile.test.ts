import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

interface Locked {
  readonly resolved?: string;
  readonly integrity?: string;
  readonly os?: readonly string[] | string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const { packages } = JSON.parse(
  readFileSync(join(import.meta.dirname, "../package-lock.json"), "utf8"),
) as { packages: Readonly<Record<string, Locked>> };
const installed = Object.entries(packages).filter(([path]) => path !== "");
const mend = "mend with: npm run lock";

test("the lockfile names no registry", () => {
  const named = installed.filter(([, { resolved }]) => resolved !== undefined);
  assert.deepEqual(named, [], mend);
});

test("every package is locked by its digest, but for the checks' tools on other platforms", () => {
  const loose = installed.filter(([, { integrity }]) => integrity === undefined);
  const wrong = loose.filter(([, { dev, optional, os }]) => !(dev && optional && os));
  assert.deepEqual(wrong, [], mend);
});

test("builds for other platforms are there, without which npm ci refuses the lockfile", () => {
  const missing = Object.values(packages)
    .flatMap(({ optionalDependencies }) => Object.keys(optionalDependencies ?? {}))
    .filter((name) => packages[`node_modules/${name}`] === undefined);
  assert.deepEqual(missing, [], mend);
});

test("a Node of 24 comes along for Linux and macOS on both architectures", () => {
  const nodes = Object.keys(packages[""]?.optionalDependencies ?? {});
  for (const platform of ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"]) {
    const found = nodes.filter((name) => name.endsWith(platform));
    assert.equal(found.length, 1, platform);
    assert.ok(packages[`node_modules/${found[0]}`]?.integrity?.startsWith("sha512-"), platform);
  }
});
