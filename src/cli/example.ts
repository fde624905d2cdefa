import { existsSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { Readable } from "node:stream";
import { Header } from "tar";
import type { Config } from "../config/config.ts";
import type { Pool } from "../domain/pool.ts";
import { listed } from "../domain/words.ts";
import type { JobView } from "../web/views.ts";
import type { Client } from "./client.ts";
import { jobPath } from "./find.ts";
import { localTree, type LocalTree } from "./local-tree.ts";
import { bytesOf, followLog } from "./log-stream.ts";
import { isCheckout, packageRoot } from "./places.ts";
import { uploadTree } from "./source.ts";
import { clean, note, painter, type StatusLine } from "./terminal.ts";
import { ending } from "./wait.ts";

/*
 * The example of a first start: Mayfly's own unit tests, at its own HEAD, in a fresh throw-away
 * machine. The tree goes the way of any submission. What a machine without a network lacks to run
 * them, Node and the npm packages, is lent to it from this checkout, read-only: so a container's
 * pool of its own is added for it. Without a checkout, a small built-in repository is run instead.
 */

/** An example that can be run on `pool` of the configuration it came with. */
export interface Example {
  readonly pool: string;
  /** What is run, for people: `Mayfly's own unit tests at 3c6a96e785`. */
  readonly what: string;
  /** What a person should know of it. */
  readonly notes: readonly string[];
  readonly submission: { readonly repository: string; readonly command: readonly string[] };
  readonly commit: string | null;
  archive(): Promise<Readable>;
}

const name = "example";
const timeoutSeconds = 900;

/** Finds what can be run here, and adds to the configuration what it needs to. */
export async function prepareExample(
  config: Config,
): Promise<{ config: Config; example: Example }> {
  const root = packageRoot();
  const [pool] = config.pools;
  const provider = config.providers.find((part) => part.name === pool?.provider);
  if (pool === undefined || provider === undefined) throw new Error("a configuration has a pool");
  const tree = whyNoTests(root, provider.kind) ?? (await localTree(root, undefined).catch(String));
  if (typeof tree === "string") return { config, example: builtIn(pool, tree) };
  const node = realpathSync(process.execPath);
  const packages = join(root, "node_modules");
  if (provider.kind === "host") {
    return { config, example: await ownTests(pool.name, tree, { packages, node }) };
  }
  const lent = lend(packages, node);
  const options = provider.options as { readonly mounts: readonly object[] };
  const lender = `${provider.name}-example`.slice(0, 31);
  const lending = { ...options, mounts: [...options.mounts, ...lent.mounts] };
  const exampleConfig: Config = {
    ...config,
    providers: [...config.providers, { name: lender, kind: provider.kind, options: lending }],
    pools: [...config.pools, { ...pool, ...unlimited, name, provider: lender, max: 1 }],
  };
  return { config: exampleConfig, example: await ownTests(name, tree, lent) };
}

const unlimited: Partial<Pool> = { labels: [], allow: [], deny: [], min: 0, warm: 0, schedule: [] };

function whyNoTests(root: string, providerKind: string): string | null {
  if (!isCheckout(root)) return "Mayfly is installed without its tests";
  if (!existsSync(join(root, "node_modules"))) return "this checkout has no npm packages";
  // Others' machines may be anywhere: nothing of this one can be lent to them.
  if (providerKind !== "podman" && providerKind !== "host") {
    return `machines of ${providerKind} have no Node from here`;
  }
  return null;
}

interface Lent {
  /** Paths as the machine sees them. */
  readonly packages: string;
  readonly node: string;
}

/** The npm packages, and Node: either one of them (Mayfly brings it along), or a file by itself. */
function lend(packages: string, node: string): Lent & { mounts: { from: string; to: string }[] } {
  const to = "/node_modules";
  const mounts = [{ from: realpathSync(packages), to }];
  const inside = relative(realpathSync(packages), node);
  if (!inside.startsWith("..")) return { mounts, packages: to, node: join(to, inside) };
  return {
    mounts: [...mounts, { from: node, to: "/mayfly-node" }],
    packages: to,
    node: "/mayfly-node",
  };
}

async function ownTests(pool: string, tree: LocalTree, { packages, node }: Lent): Promise<Example> {
  const script = 'ln -s "$1" node_modules && exec "$2" scripts/test.ts --unit';
  const leftOut = await tree.leftOut();
  return {
    pool,
    what: `Mayfly's own unit tests at ${tree.commit.slice(0, 10)}`,
    notes: leftOut.length === 0 ? [] : [`left out of it: ${listed(leftOut)}`],
    submission: { repository: tree.name, command: ["sh", "-c", script, "sh", packages, node] },
    commit: tree.commit,
    archive: () => tree.archive(),
  };
}

const builtInFiles = {
  "greeting.txt": "hello\n",
  "test.sh": `set -eu
echo "this is $(uname -s) on $(uname -m), in a machine of my own"
[ "$(cat greeting.txt)" = hello ]
echo "1 passed, 0 failed"
`,
};

function builtIn(pool: Pool, reason: string): Example {
  return {
    pool: pool.name,
    what: "a small built-in repository",
    notes: [`not Mayfly's own tests, for ${reason}`],
    submission: { repository: "built-in example", command: ["sh", "test.sh"] },
    commit: null,
    archive: () => Promise.resolve(Readable.from(archiveOf(builtInFiles))),
  };
}

/** A tar archive of a few small files. */
function* archiveOf(files: Readonly<Record<string, string>>): Generator<Buffer> {
  for (const [path, text] of Object.entries(files)) {
    const content = Buffer.from(text);
    const header = new Header({ path, mode: 0o755, size: content.length, type: "File" });
    header.encode();
    yield header.block ?? Buffer.alloc(0);
    yield content;
    yield Buffer.alloc(-content.length & 511);
  }
  yield Buffer.alloc(1024);
}

/** Made once an example has ended: only a first start runs it by itself. */
function marker(stateFolder: string): string {
  return join(stateFolder, "example-ran");
}

export function hasRun(stateFolder: string): boolean {
  return existsSync(marker(stateFolder));
}

/**
 * Submits the example to the running server and says where to look, how it goes and how it ended.
 * Never throws: an example that cannot be run is told, and no reason to stop.
 */
export async function runExample(
  client: Client,
  example: Example,
  stateFolder: string,
  status: StatusLine,
): Promise<void> {
  const paint = painter(process.stderr);
  // Until it has ended: should we be killed, the next start runs it again and so tidies up.
  rmSync(marker(stateFolder), { force: true });
  try {
    note(`${paint("bold", "example")}  ${example.what}`);
    for (const line of example.notes) note(paint("dim", `         ${clean(line)}`));
    const sha256 = await uploadTree(client, await example.archive());
    const job = await client.post<JobView>("/v1/jobs", {
      ...example.submission,
      name: example.what,
      source: { kind: "tree", sha256, commit: example.commit },
      pool: example.pool,
      timeoutSeconds,
    });
    note(`         ${new URL(`jobs/${job.id}`, client.server).href}`);
    const last = await lastLine(client, job.id, (line) => status.show(`         ${line}`));
    status.clear();
    const ended = await client.get<JobView>(jobPath(job.id));
    const isGood = ended.outcome === "success";
    note(`${isGood ? paint("green", "       ✔") : paint("red", "       ✘")} ${ending(ended)}`);
    if (last !== "") note(`         ${last}`);
    if (!isGood) note(`         why: mayfly why ${job.id}; all it said: mayfly logs ${job.id}`);
    writeFileSync(marker(stateFolder), `${ended.id}: ${ended.outcome}\n`);
  } catch (error) {
    status.clear();
    const reason = error instanceof Error ? error.message : String(error);
    note(`${paint("red", "       ✘")} the example could not be run: ${clean(reason)}`);
  }
}

/** Follows a job to its end; the last line of its output. */
async function lastLine(client: Client, id: string, show: (line: string) => void): Promise<string> {
  let text = "";
  let last = "";
  const never = new AbortController().signal;
  for await (const frame of followLog(client, id, never, () => {})) {
    if (frame.stream !== "stdout") continue;
    const lines = (text + bytesOf(frame).toString("utf8")).slice(-lineMax).split("\n");
    text = lines.at(-1) ?? "";
    last = lines.map((line) => clean(line).trim()).findLast((line) => line !== "") ?? last;
    show(last);
  }
  return last;
}

const lineMax = 10_000;
