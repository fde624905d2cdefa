import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { promisify } from "node:util";

/** A process that cannot be mistaken for a later one of the same number. */
export interface ProcessId {
  readonly pid: number;
  /** When it began, in the system's own words: the boot's id and ticks on Linux, a date on macOS. */
  readonly since: string;
}

/** Parses the supervisor's `pid` file; null for anything else. */
export function parseProcessId(text: string): ProcessId | null {
  const [, pid, since] = /^(\d{1,10}) (\S.*)\n$/.exec(text) ?? [];
  return pid === undefined || since === undefined ? null : { pid: Number(pid), since };
}

/** True while that very process runs; a zombie's work is over. */
export async function isAlive({ pid, since }: ProcessId): Promise<boolean> {
  return (await startOf(pid)) === since;
}

/** When process `pid` began; null when there is none. */
export async function startOf(pid: number): Promise<string | null> {
  if (process.platform !== "linux") {
    const run = promisify(execFile);
    const args = ["-o", "stat=,lstart=", "-p", String(pid)];
    const { stdout } = await run("ps", args, { env: { LC_ALL: "C", TZ: "UTC" } }).catch(() => ({
      stdout: "",
    }));
    const [state = "Z", ...words] = stdout.trim().split(/\s+/);
    return state.startsWith("Z") ? null : words.join(" ");
  }
  const [stat, boot] = await Promise.all([
    readFile(`/proc/${pid}/stat`, "utf8").catch(() => ""),
    readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => ""),
  ]);
  // The command's name, in brackets, may hold spaces and brackets: fields count from the last one.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[19] === undefined ? null : `${boot.trim()}/${fields[19]}`;
}

/**
 * The processes whose environment holds exactly `marker` (`NAME=value`): those that outlived their
 * supervisor. Linux only, and only those we may look into.
 */
export async function processesWith(marker: string): Promise<readonly number[]> {
  if (process.platform !== "linux") return [];
  const found: number[] = [];
  const bytes = Buffer.from(marker).toString("latin1");
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    const environment = await readFile(`/proc/${entry}/environ`, "latin1").catch(() => "");
    if (environment.split("\0").includes(bytes)) found.push(Number(entry));
  }
  return found;
}

/** Sends a signal, 0 for none; false when there is no such process (any more) or it is not ours. */
export function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
