import { randomBytes } from "node:crypto";
import { access, mkdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { lastWords, runTool, toolEnvironment, type Finished } from "../child.ts";
import { wallArguments } from "./arguments.ts";
import { Podman, type Settings } from "./engine.ts";

/** What podman on this host can really do, as found by trying. */
export interface Powers {
  readonly rootless: boolean;
  readonly runtime: string;
  readonly cgroupManager: string;
  /** Root of a machine is another user on this host. */
  readonly userNamespace: boolean;
  /** Memory, processes and processor time are really limited. */
  readonly limits: boolean;
  /** The store can limit a machine's disk. */
  readonly quota: boolean;
  /** The store's driver, and where it is. */
  readonly driver: string;
  readonly graphRoot: string;
  /** The highest of these limits that we may set. */
  readonly nofile: number;
  readonly nproc: number;
}

/** What is kept of them; a file of another Mayfly may lack some. */
const kinds: Readonly<Record<keyof Powers, "boolean" | "string" | "number">> = {
  rootless: "boolean",
  runtime: "string",
  cgroupManager: "string",
  userNamespace: "boolean",
  limits: "boolean",
  quota: "boolean",
  driver: "string",
  graphRoot: "string",
  nofile: "number",
  nproc: "number",
};

const size = { cpu: 1, memoryMb: 64, diskGb: 1 };
/** In a POSIX shell's own words, since the image holds nothing but the host's /usr, lent. */
const script = `
read inside outside count </proc/self/uid_map; echo "root $outside"
for file in memory.max memory/memory.limit_in_bytes; do
  [ -r /sys/fs/cgroup/$file ] && read value </sys/fs/cgroup/$file && echo "memory $value"
done
for file in pids.max pids/pids.max; do
  [ -r /sys/fs/cgroup/$file ] && read value </sys/fs/cgroup/$file && echo "pids $value"
done
echo works`;

/**
 * Finds the runtime and cgroup manager that work on this host, and how strong a machine's walls can
 * be, by starting containers; kept in `folder` until the next boot or another podman. Throws
 * `invalid` with podman's own words when no container starts at all.
 */
export async function findPowers(folder: string, signal: AbortSignal): Promise<Powers> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(120_000)]);
  const kept = join(folder, "powers.json");
  const key = await identity(within);
  const known = readKept(await readFile(kept, "utf8").catch(() => "null"), key);
  if (known !== null) return known;
  const powers = await probe(folder, within);
  await writeFile(kept, JSON.stringify({ key, powers }, null, 2));
  return powers;
}

function readKept(text: string, key: string): Powers | null {
  const kept = asJson(text) as { key?: string; powers?: Powers } | null;
  if (kept?.key !== key || kept.powers == null) return null;
  const { powers } = kept;
  const names = Object.keys(kinds) as (keyof Powers)[];
  return names.every((name) => typeof powers[name] === kinds[name]) ? powers : null;
}

/** By the program's file where it can be found: asking podman itself takes far longer. */
async function identity(signal: AbortSignal): Promise<string> {
  const podman = (await podmanFile()) ?? (await podmanVersion(signal));
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "");
  return [podman, boot.trim(), process.getuid?.(), ...(await runtimes())].join(" ");
}

async function podmanFile(): Promise<string | null> {
  for (const folder of (toolEnvironment()["PATH"] ?? "").split(delimiter)) {
    const found = await stat(join(folder, "podman")).catch(() => null);
    if (found?.isFile()) return `${folder}/podman ${found.size} ${found.mtimeMs}`;
  }
  return null;
}

async function podmanVersion(signal: AbortSignal): Promise<string> {
  return (await new Podman("/dev/null").run(["--version"], signal)).stdout.trim();
}

async function probe(folder: string, signal: AbortSignal): Promise<Powers> {
  const choices = await settingsHere();
  const [first] = choices;
  if (first === undefined) {
    throw new ProviderError("invalid", "neither runc nor crun is installed: apt-get install runc");
  }
  const random = randomBytes(4).toString("hex");
  const scratch = join(folder, `probe-${random}`);
  const image = `localhost/mayfly-probe-${random}`;
  const podmanFor = (settings: Settings) =>
    Podman.configured(scratch, `${settings.runtime}-${settings.cgroupManager}`, settings);
  try {
    const base = await podmanFor(first);
    const { rootless, ...store } = await storeOf(base, signal);
    await makeImage(base, image, scratch, signal);
    const hard = await hardLimits();
    let best: Powers | null = null;
    let failure = "";
    for (const level of levels(rootless)) {
      for (const settings of choices) {
        const asked = { ...store, rootless, ...hard, ...settings, ...level, quota: false };
        const found = await attempt(await podmanFor(settings), image, asked, signal);
        if (typeof found === "string") failure ||= found;
        else if (best === null || strength(found) > strength(best)) best = found;
        if (best !== null && strength(best) === 3) break;
      }
      if (best !== null && strength(best) === 3) break;
    }
    if (best === null) throw new ProviderError("invalid", `podman starts no container: ${failure}`);
    const limited = await attempt(await podmanFor(best), image, { ...best, quota: true }, signal);
    return { ...best, quota: typeof limited !== "string" };
  } finally {
    const base = await podmanFor(first);
    await base.run(["rmi", "--force", image], AbortSignal.timeout(30_000)).catch(() => {});
    await rm(scratch, { recursive: true, force: true });
  }
}

const strength = ({ userNamespace, limits }: Powers): number =>
  (userNamespace ? 2 : 0) + (limits ? 1 : 0);

/** From strong to weak. A rootless podman always has a user namespace. */
function levels(rootless: boolean): Pick<Powers, "userNamespace" | "limits">[] {
  const both = [true, false].map((limits) => ({ userNamespace: true, limits }));
  return rootless ? both : [...both, ...both.map((level) => ({ ...level, userNamespace: false }))];
}

/** Starts one container as asked. What it really had, or podman's words when it failed. */
async function attempt(
  podman: Podman,
  image: string,
  asked: Powers,
  signal: AbortSignal,
): Promise<Powers | string> {
  const lent: string[] = [];
  for (const path of ["/usr", "/bin", "/lib", "/lib64"]) {
    if (await isFolder(path)) lent.push(`--volume=${path}:${path}:ro`);
  }
  const command = [image, "/bin/sh", "-c", script];
  const run = ["--network=none", ...lent, ...command];
  const { code, stdout, stderr } = await tryContainer(podman, asked, run, signal);
  if (code !== 0 || !stdout.includes("works")) return lastWords(stderr);
  const outside = /^root (\d+)$/m.exec(stdout)?.[1];
  const memory = /^memory (\d+)$/m.exec(stdout)?.[1];
  const limits = memory === String(size.memoryMb * 2 ** 20) && /^pids 512$/m.test(stdout);
  return { ...asked, userNamespace: outside !== undefined && outside !== "0", limits };
}

/** Runs a container within the walls of `powers` to its end; `run` is more options, image, command. */
export async function tryContainer(
  podman: Podman,
  powers: Powers,
  run: readonly string[],
  signal: AbortSignal,
): Promise<Finished> {
  const name = `mayfly-probe-${randomBytes(6).toString("hex")}`;
  const options = ["--rm", "--pull=never", "--entrypoint=", "--timeout=30", `--name=${name}`];
  return podman.run(["run", ...options, ...wallArguments(size, name, powers), ...run], signal);
}

/** An image of empty folders into which the host's programs are lent. */
async function makeImage(
  podman: Podman,
  image: string,
  scratch: string,
  signal: AbortSignal,
): Promise<void> {
  const root = join(scratch, "root");
  for (const folder of ["usr", "proc", "sys", "dev", "run", "etc", "tmp"]) {
    await mkdir(join(root, folder), { recursive: true });
  }
  for (const name of ["bin", "lib", "lib64"]) {
    const target = await readlink(`/${name}`).catch(() => null);
    if (target !== null) await symlink(target, join(root, name));
    else if (await isFolder(`/${name}`)) await mkdir(join(root, name));
  }
  const archive = join(scratch, "root.tar");
  const plain = ["--owner=0", "--group=0", "--mode=go-w"];
  await runTool("tar", [...plain, "-C", root, "-cf", archive, "."], {
    signal,
    environment: toolEnvironment(),
    mend: "install it: apt-get install tar",
  });
  const { code, stderr } = await podman.run(["import", "--quiet", archive, image], signal);
  if (code !== 0) throw new ProviderError("invalid", `podman's store: ${lastWords(stderr)}`);
}

async function storeOf(podman: Podman, signal: AbortSignal) {
  const { stdout, stderr } = await podman.run(["info", "--format=json"], signal);
  const { readInfo } = await import("./answers.ts");
  const info = readInfo(stdout);
  if (info === null) throw new ProviderError("invalid", `podman: ${lastWords(stderr)}`);
  const { graphDriverName: driver, graphRoot } = info.store;
  return { driver, graphRoot, rootless: info.host.security.rootless };
}

async function settingsHere(): Promise<Settings[]> {
  const managers = (await exists("/run/systemd/system")) ? ["systemd", "cgroupfs"] : ["cgroupfs"];
  const found = await runtimes();
  return managers.flatMap((cgroupManager) => found.map((runtime) => ({ runtime, cgroupManager })));
}

/** The runtimes installed here, the faster one first. */
async function runtimes(): Promise<string[]> {
  const folders = (toolEnvironment()["PATH"] ?? "").split(delimiter);
  const found: string[] = [];
  for (const runtime of ["crun", "runc"]) {
    for (const folder of folders) {
      if (!(await exists(join(folder, runtime)))) continue;
      found.push(runtime);
      break;
    }
  }
  return found;
}

/** Our own hard limits: without CAP_SYS_RESOURCE a container may not have more. */
async function hardLimits(): Promise<Pick<Powers, "nofile" | "nproc">> {
  const text = await readFile("/proc/self/limits", "utf8").catch(() => "");
  const limit = (label: string, most: number): number => {
    const hard = new RegExp(`^${label} +\\S+ +(\\d+) `, "m").exec(text)?.[1];
    return Math.min(most, hard === undefined ? most : Number(hard));
  };
  // podman 4.3 lowers its own limit of processes to 32768 and then cannot give more.
  return { nofile: limit("Max open files", 1_048_576), nproc: limit("Max processes", 16_384) };
}

async function isFolder(path: string): Promise<boolean> {
  return (await readlink(path).catch(() => null)) === null && (await exists(path));
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** What the text says, or null when it is no JSON. */
function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
