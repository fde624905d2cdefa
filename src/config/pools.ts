import { excess } from "../domain/capacity.ts";
import type { Pool } from "../domain/pool.ts";
import type { Size } from "../domain/size.ts";
import type { Fault } from "./document.ts";
import type { Parts } from "./references.ts";
import type { ConfigFile, PoolFile } from "./schema.ts";
import { fitsTimes, halfOf } from "./size.ts";

const defaults = { bootSeconds: 300, idleSeconds: 300, jobSeconds: 3600 };
/** Forges end a job by their own time first: this is GitHub's. */
const forgeJobSeconds = 6 * 3600;

/** Limits of a pool that contradict each other. */
export function overLimits(file: ConfigFile): Fault[] {
  return Object.entries(file.pools ?? {}).flatMap(([name, pool]) => {
    const faults: Fault[] = [];
    const fault = (key: keyof PoolFile, message: string) =>
      faults.push({ path: ["pools", name, key], message });
    const { max, min = 0, warm = 0, size, maximum } = pool;
    if (max !== undefined && min > max) fault("min", `is above max; write at most ${max}`);
    if (max !== undefined && warm > max) fault("warm", `is above max; write at most ${max}`);
    const over = size === undefined || maximum === undefined ? null : excess(size, maximum);
    if (over !== null) fault("size", `is above maximum (${over}); raise maximum or lower size`);
    return faults;
  });
}

/** The file's pools with every default filled in; one called `default` where it has none. */
export function buildPools(file: ConfigFile, parts: Parts, machine: Size): Pool[] {
  const pools: Readonly<Record<string, PoolFile>> = file.pools ?? { default: {} };
  return Object.entries(pools).map(([name, pool]) => {
    const size = pool.size ?? halfOf(machine);
    const min = pool.min ?? 0;
    const warm = pool.warm ?? 0;
    const forge = pool.forge ?? parts.defaults.forge;
    // A forge's runner gets its job, and most of what that needs, from a server.
    const isNative = parts.forges.find((part) => part.name === forge)?.kind === "native";
    return {
      name,
      forge,
      provider: pool.provider ?? parts.defaults.provider,
      labels: pool.labels ?? [],
      size,
      maximum: pool.maximum ?? null,
      allow: pool.allow ?? [],
      deny: pool.deny ?? [],
      // Strangers' code is let in on purpose, never by default.
      accept: pool.accept ?? ["trusted"],
      max: pool.max ?? Math.max(min, warm, fitsTimes(size, machine)),
      caps: { perRepository: pool.perRepository ?? null, perOwner: pool.perOwner ?? null },
      min,
      warm,
      schedule: pool.schedule ?? [],
      learn: pool.learn ?? null,
      image: pool.image ?? null,
      ...(pool.rerun === false ? { reruns: false as const } : {}),
      network: pool.network ?? !isNative,
      bootDeadlineSeconds: pool.boot ?? defaults.bootSeconds,
      idleSeconds: pool.idle ?? defaults.idleSeconds,
      jobDeadlineSeconds: pool.timeout ?? (isNative ? defaults.jobSeconds : forgeJobSeconds),
    };
  });
}
