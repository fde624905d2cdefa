import { readFile } from "node:fs/promises";
import { ProviderError } from "../../domain/errors.ts";

export interface Load {
  readonly totalMemoryMb: number;
  readonly availableMemoryMb: number;
  /** How much of the last ten seconds some process waited for a processor; null: not known. */
  readonly cpuPressurePercent: number | null;
}

/** What the host carries just now, by `/proc`. */
export async function findLoad(): Promise<Load> {
  const [memory, pressure] = await Promise.all(
    ["/proc/meminfo", "/proc/pressure/cpu"].map((path) => readFile(path, "utf8").catch(() => "")),
  );
  return loadOf(memory ?? "", pressure ?? "");
}

export function loadOf(memory: string, pressure: string): Load {
  const megabytes = (name: string): number => {
    const kilobytes = new RegExp(`^${name}:\\s*(\\d+) kB$`, "m").exec(memory)?.[1];
    return kilobytes === undefined ? Number.POSITIVE_INFINITY : Number(kilobytes) / 1024;
  };
  const percent = /^some avg10=([\d.]+) /m.exec(pressure)?.[1];
  return {
    totalMemoryMb: megabytes("MemTotal"),
    availableMemoryMb: megabytes("MemAvailable"),
    cpuPressurePercent: percent === undefined ? null : Number(percent),
  };
}

/**
 * Throws `no_capacity` when the host should not get one more machine of `memoryMb`; `others` is the
 * memory of each that it has, which they may not have taken yet. The first is not refused for busy
 * processors, since what keeps them busy may stay for ever.
 */
export function refuseOverload(
  load: Load,
  memoryMb: number,
  others: readonly number[],
  limits: { readonly reserveMemoryMb: number; readonly cpuPressureMax: number },
): void {
  const { totalMemoryMb, availableMemoryMb, cpuPressurePercent } = load;
  const promised = totalMemoryMb - others.reduce((sum, each) => sum + each, 0);
  const freeMb = Math.min(availableMemoryMb, promised);
  if (freeMb < memoryMb + limits.reserveMemoryMb) {
    const has = `${Math.floor(Math.max(0, freeMb))} MB of the host's memory are free`;
    const needs = `the machine needs ${memoryMb} and ${limits.reserveMemoryMb} stay in reserve`;
    throw new ProviderError("no_capacity", `${has}; ${needs}`);
  }
  if (others.length === 0 || cpuPressurePercent === null) return;
  if (cpuPressurePercent > limits.cpuPressureMax) {
    const busy = `${Math.round(cpuPressurePercent)} % of the time something waits for a processor`;
    throw new ProviderError("no_capacity", `${busy}; at ${limits.cpuPressureMax} % growth stops`);
  }
}
