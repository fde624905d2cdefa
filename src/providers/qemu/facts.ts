import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Accelerator } from "./arguments.ts";

/** What of the host a guest may have, and what it may not. */
export interface HostFacts {
  /** Features of the processor worth a label, by the names `/proc/cpuinfo` has for them. */
  readonly cpuFeatures: readonly string[];
  readonly hasCounters: boolean;
  /** Names of PCI display and processing controllers. */
  readonly gpus: readonly string[];
}

const features = ["aes", "avx2", "avx512f", "sha_ni", "vmx", "svm", "sve", "sve2"];

export async function findFacts(): Promise<HostFacts> {
  const cpuinfo = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
  const flags = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1]?.split(" "));
  const counters = await stat("/sys/bus/event_source/devices/cpu").catch(() => null);
  return {
    cpuFeatures: features.filter((name) => flags.has(name)),
    hasCounters: counters !== null,
    gpus: await findGpus("/sys/bus/pci/devices"),
  };
}

/** PCI devices of class 0x03 (display) and 0x12 (processing accelerators) below `devices`. */
export async function findGpus(devices: string): Promise<readonly string[]> {
  const entries = await readdir(devices).catch(() => []);
  const found: string[] = [];
  for (const entry of entries) {
    const code = await readFile(join(devices, entry, "class"), "utf8").catch(() => "");
    if (/^0x(03|12)/.test(code)) found.push(entry);
  }
  return found;
}

/**
 * Labels of what a guest really has. An emulated one has QEMU's processor and no counters, whatever
 * the host's; no guest has the host's GPUs.
 */
export function labelsOf(accelerator: Accelerator, facts: HostFacts): readonly string[] {
  if (accelerator === "tcg") return ["qemu", "tcg"];
  return ["qemu", "kvm", ...(facts.hasCounters ? ["perf"] : []), ...facts.cpuFeatures];
}
