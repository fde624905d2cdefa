import { spawn } from "node:child_process";
import { access, readFile } from "node:fs/promises";
import { once } from "node:events";
import { join } from "node:path";
import { ProviderError } from "../domain/errors.ts";
import { lastWords, runTool, toolEnvironment } from "./child.ts";

/*
 * Systems made out of the host's own Debian or Ubuntu archive by mmdebstrap: no registry involved.
 */

export const imageMend = "install what makes it: apt-get install mmdebstrap uidmap";

/** A release of Debian or Ubuntu, and where mmdebstrap finds it; none: at its usual place. */
export interface Suite {
  readonly system: "debian" | "ubuntu";
  readonly suite: string;
  readonly sources: readonly string[];
}

export interface Bootstrap {
  readonly suite: Suite;
  /** mmdebstrap's options besides its hooks for reaching the archive. */
  readonly args: readonly string[];
  /** A .tar, or /dev/null for nothing but what the hooks take out. */
  readonly target: string;
  /** A folder for what it makes underway. */
  readonly scratch: string;
  readonly environment?: NodeJS.ProcessEnv;
}

/**
 * Runs mmdebstrap; `progress` gets a line a step. Throws `invalid` with its own words when it is
 * missing or fails.
 */
export async function bootstrap(
  { suite, args, target, scratch, environment = {} }: Bootstrap,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const hooks = [
    // For the making only: the host's proxy and its password are no business of a job's.
    '--setup-hook=printf %s "$MAYFLY_APT_CONF" >"$1/etc/apt/apt.conf.d/00mayfly"',
    '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/00mayfly"',
  ];
  const words = [...args, ...hooks, suite.suite, target, ...suite.sources];
  const [tool = "", ...all] = [...ownNamespaces(), "mmdebstrap", ...words];
  const made = await runTool(tool, all, {
    signal,
    environment: {
      ...toolEnvironment(),
      ...environment,
      // By the environment, since a user's mmdebstrap works as another user, who reads no file of ours.
      MAYFLY_APT_CONF: await hostAptOptions(signal),
      ...(process.getuid?.() === 0 ? { TMPDIR: scratch } : {}),
    },
    mend: imageMend,
    wholeGroup: true,
    onLine: (line) => {
      const step = /^I: ((running apt|downloading|extracting|installing|creating).*)/.exec(line);
      if (step?.[1] !== undefined) progress(step[1]);
    },
  });
  if (made.code === 0) return;
  // Its very last word is only that it failed.
  const errors = made.stderr
    .split("\n")
    .filter((line) => /^(E|Err|W): (?!mmdebstrap failed to run$)/.test(line));
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
export async function hostSuite(): Promise<Suite> {
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  const field = (name: string) => new RegExp(`^${name}="?([a-z]+)"?$`, "m").exec(release)?.[1];
  const system = field("ID");
  const suite = field("VERSION_CODENAME");
  if (suite === undefined || (system !== "debian" && system !== "ubuntu")) {
    return { system: "debian", suite: "stable", sources: [] };
  }
  // Only the distribution's own: what else the host draws from is not for every job.
  const sources: string[] = [];
  for (const path of ["/etc/apt/sources.list", `/etc/apt/sources.list.d/${system}.sources`]) {
    const text = await readFile(path, "utf8").catch(() => "");
    if (/^\s*(deb\s|Types:)/m.test(text)) sources.push(path);
  }
  return { system, suite, sources };
}

const releases = {
  debian: "buster bullseye bookworm trixie forky duke sid oldstable stable testing unstable",
  ubuntu: "bionic focal jammy noble oracular plucky questing resolute devel",
};

/**
 * The release to make a system of: `wanted`, else the host's own. Only the host's own distribution's
 * can be had, since its archive is the one whose keys the host has: throws `invalid` otherwise.
 */
export function chooseSuite(host: Suite, wanted: string | null): Suite {
  if (wanted === null || wanted === host.suite) return host;
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(wanted)) {
    throw new ProviderError("invalid", "a release is named like bookworm or noble");
  }
  const other = host.system === "debian" ? "ubuntu" : "debian";
  if (releases[other].split(" ").includes(wanted)) {
    const names = { debian: "Debian", ubuntu: "Ubuntu" };
    throw new ProviderError(
      "invalid",
      `${wanted} is ${names[other]}'s, and this host's archive is ${names[host.system]}'s: build the image on a host with ${names[other]}`,
    );
  }
  return { system: host.system, suite: wanted, sources: [] };
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

/**
 * Throws `invalid`, saying what to install, unless programs of a foreign architecture (as Debian names
 * it) run here, which making its system needs.
 */
export async function refuseForeign(architecture: string, signal: AbortSignal): Promise<void> {
  const mend = `let this host run programs of ${architecture}: apt-get install arch-test qemu-user-static binfmt-support`;
  const environment = toolEnvironment();
  const { code } = await runTool("arch-test", [architecture], { signal, environment, mend });
  if (code !== 0) throw new ProviderError("invalid", `no system can be made here; ${mend}`);
}

/** Waits for a lock that lasts until it is given back, or until this process ends. */
export async function lock(path: string, signal: AbortSignal): Promise<() => void> {
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

/** True when the tool is there to be run. */
export async function hasTool(name: string): Promise<boolean> {
  for (const folder of (toolEnvironment()["PATH"] ?? "").split(":")) {
    const found = await access(join(folder, name)).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}
