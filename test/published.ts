import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import * as tar from "tar";

/*
 * Documents that others publish as packages, too large to be dependencies: the very version is
 * fetched by npm once, checked against its digest, and only the files needed are kept.
 */

export interface Published {
  readonly name: string;
  readonly version: string;
  /** As the registry and lockfiles write it. */
  readonly integrity: string;
}

/** GitHub's REST API, described by GitHub. */
export const githubApi: Published = {
  name: "@octokit/openapi",
  version: "23.0.2",
  integrity:
    "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==",
};

/** GitHub's webhooks, likewise. */
export const githubWebhooks: Published = {
  name: "@octokit/openapi-webhooks",
  version: "12.1.0",
  integrity:
    "sha512-Z5eDsLCUNbx1zHpZb1LNQirADqdMTvWJQ/deahi0ws+tWWnwHXB+Pr4jfmM9OrETS9Y5iW8ZRu1fdbudObhLrg==",
};

/** Webhooks that GitHub sent. */
export const githubExamples: Published = {
  name: "@octokit/webhooks-examples",
  version: "7.6.1",
  integrity:
    "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ==",
};

const cache = join(import.meta.dirname, "..", "node_modules", ".cache", "mayfly-published");
const run = promisify(execFile);

/** A JSON file of a package, or, as text, why it cannot be had here. */
export async function publishedJson(
  pack: Published,
  file: string,
): Promise<{ readonly json: unknown } | { readonly why: string }> {
  const kept = join(cache, `${pack.name.replace("/", "-")}-${pack.version}`, file);
  try {
    if (!existsSync(kept)) await fetchFile(pack, file, kept);
    return { json: JSON.parse(await readFile(kept, "utf8")) as unknown };
  } catch (error) {
    const [line = ""] = String(error instanceof Error ? error.message : error).split("\n");
    return { why: `${pack.name} ${pack.version} cannot be had: ${line}` };
  }
}

async function fetchFile(pack: Published, file: string, kept: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "mayfly-published-"));
  try {
    const args = ["pack", "--silent", "--ignore-scripts", `${pack.name}@${pack.version}`];
    await run("npm", args, { cwd: folder, timeout: 180_000 });
    const [archive = ""] = await readdir(folder);
    const bytes = await readFile(join(folder, archive));
    const digest = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
    if (digest !== pack.integrity) throw new Error(`its digest is ${digest}`);
    await tar.extract({
      file: join(folder, archive),
      cwd: folder,
      filter: (path) => path === `package/${file}`,
    });
    await mkdir(join(kept, ".."), { recursive: true });
    // Whole or not at all: other tests may look for it meanwhile.
    const beside = `${kept}.${process.pid}`;
    await copyFile(join(folder, "package", file), beside);
    await rename(beside, kept);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
