import { randomBytes } from "node:crypto";
import { spawn } from "node:child_process";
import { access, mkdir, readFile, readdir, rm } from "node:fs/promises";
import { once } from "node:events";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { lastWords, runTool } from "../child.ts";
import { toolEnvironment, type Podman } from "./engine.ts";

/** Goes up with every change of what is in the image, so that a new one is made. */
const recipe = "1";
export const baseImage = `localhost/mayfly-base:${recipe}`;
/** What a job may count on: a shell and Perl come with Debian's smallest set; mk is 9base's. */
const packages = ["git", "ca-certificates", "make", "9base"];
export const imageMend = "install what makes it: apt-get install mmdebstrap uidmap";

/** True when podman's store has the image. */
export async function hasImage(
  podman: Podman,
  image: string,
  signal: AbortSignal,
): Promise<boolean> {
  return (await podman.run(["image", "exists", image], signal)).code === 0;
}

/**
 * Whether the store's own list names the image: a look that takes a millisecond where podman takes
 * a hundred. False where the list is elsewhere or of another form; then podman knows.
 */
async function isListed(graphRoot: string): Promise<boolean> {
  const list = join(graphRoot, "overlay-images", "images.json");
  const text = await readFile(list, "utf8").catch(() => "");
  return text.includes(JSON.stringify(baseImage));
}

/**
 * Makes `localhost/mayfly-base` out of the host's own Debian or Ubuntu archive, unless podman has it
 * already: a minimal system and `packages`, no registry involved. One at a time on a store, however
 * many ask. `progress` gets a line a step. Throws `invalid` when mmdebstrap is missing or fails.
 */
export async function ensureImage(
  podman: Podman,
  { folder, graphRoot }: { folder: string; graphRoot: string },
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  if ((await isListed(graphRoot)) || (await hasImage(podman, baseImage, signal))) return;
  const unlock = await lock(join(graphRoot, "mayfly-image.lock"), signal);
  const scratch = join(folder, `image-${randomBytes(4).toString("hex")}`);
  try {
    if (await hasImage(podman, baseImage, signal)) return;
    // Of a manager that was killed while it made one.
    for (const entry of await readdir(folder)) {
      if (entry.startsWith("image-")) await rm(join(folder, entry), { recursive: true });
    }
    progress(`making ${baseImage} from Debian packages; this happens once`);
    await mkdir(scratch, { recursive: true, mode: 0o700 });
    const archive = await bootstrap(scratch, progress, signal);
    progress("importing it into podman");
    await podman.run(["rmi", "--force", baseImage], signal);
    const labels = [`--change=LABEL mayfly.recipe=${recipe}`, '--change=CMD ["/bin/sh"]'];
    const imported = await podman.run(["import", ...labels, archive, baseImage], signal);
    if (imported.code !== 0) {
      throw new ProviderError("invalid", `podman import failed: ${lastWords(imported.stderr)}`);
    }
    progress(`${baseImage} is ready`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    unlock();
  }
}

async function bootstrap(
  scratch: string,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<string> {
  const archive = join(scratch, "base.tar");
  // By the environment, since a user's mmdebstrap works as another user, who reads no file of ours.
  const environment = { ...toolEnvironment(), MAYFLY_APT_CONF: await hostAptOptions(signal) };
  const { suite, sources } = await hostSuite();
  const hooks = [
    // For the making only: the host's proxy and its password are no business of a job's.
    '--setup-hook=printf %s "$MAYFLY_APT_CONF" >"$1/etc/apt/apt.conf.d/00mayfly"',
    '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/00mayfly"',
  ];
  const includes = `--include=${packages.join(",")}`;
  const args = ["--variant=minbase", includes, ...hooks, suite, archive, ...sources];
  const [tool = "", ...all] = [...ownNamespaces(), "mmdebstrap", ...args];
  const made = await runTool(tool, all, {
    signal,
    environment: { ...environment, ...(process.getuid?.() === 0 ? { TMPDIR: scratch } : {}) },
    mend: imageMend,
    wholeGroup: true,
    onLine: (line) => {
      const step = /^I: ((running apt|downloading|extracting|installing|creating).*)/.exec(line);
      if (step?.[1] !== undefined) progress(step[1]);
    },
  });
  if (made.code === 0) return archive;
  const errors = made.stderr.split("\n").filter((line) => /^(E|Err|W): /.test(line));
  const why = lastWords(errors.join("\n") || made.stderr);
  throw new ProviderError("invalid", `mmdebstrap could not make the image: ${why}`);
}

/**
 * As root, mmdebstrap mounts the host's /dev and /proc in the tree it makes. In namespaces of its
 * own, the end of it, even by a kill, ends those too, and the tree can be removed without harm.
 */
function ownNamespaces(): string[] {
  if (process.getuid?.() !== 0) return [];
  return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
}

/** The host's own release and archive; Debian's stable one on a host that is neither. */
async function hostSuite(): Promise<{ suite: string; sources: string[] }> {
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  const field = (name: string) => new RegExp(`^${name}="?([a-z]+)"?$`, "m").exec(release)?.[1];
  const system = field("ID");
  const suite = field("VERSION_CODENAME");
  if (suite === undefined || (system !== "debian" && system !== "ubuntu")) {
    return { suite: "stable", sources: [] };
  }
  // Only the distribution's own: what else the host draws from is not for every job.
  const sources: string[] = [];
  for (const path of ["/etc/apt/sources.list", `/etc/apt/sources.list.d/${system}.sources`]) {
    const text = await readFile(path, "utf8").catch(() => "");
    if (/^\s*(deb\s|Types:)/m.test(text)) sources.push(path);
  }
  return { suite, sources };
}

/** How the host reaches its archive: proxies, retries, whether dates are checked. */
async function hostAptOptions(signal: AbortSignal): Promise<string> {
  const mend = imageMend;
  const environment = toolEnvironment();
  const { stdout } = await runTool("apt-config", ["dump"], { signal, environment, mend });
  const kept = /^Acquire::(https?::|Retries|Check-Valid-Until|Check-Date|ForceIPv4)/;
  return stdout
    .split("\n")
    .filter((line) => kept.test(line))
    .map((line) => `${line}\n`)
    .join("");
}

/** Waits for a lock that lasts until it is given back, or until this process ends. */
async function lock(path: string, signal: AbortSignal): Promise<() => void> {
  const holder = spawn("flock", [path, "sh", "-c", "echo locked; cat"], {
    env: toolEnvironment(),
    stdio: ["pipe", "pipe", "ignore"],
  });
  const giveUp = (): void => void holder.kill();
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    const heard = once(holder.stdout, "data").then(() => true);
    const ended = once(holder, "close").then(() => false);
    if (!(await Promise.race([heard, ended]))) {
      throw new ProviderError("unreachable", `${path} cannot be locked`);
    }
  } catch (error) {
    if (error instanceof ProviderError) throw error;
    throw new ProviderError("invalid", "flock is not installed: apt-get install util-linux");
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
  return () => holder.stdin.end();
}

/** True when the base image could be made here. */
export async function canMakeImage(): Promise<boolean> {
  for (const folder of (toolEnvironment()["PATH"] ?? "").split(":")) {
    const found = await access(join(folder, "mmdebstrap")).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}
