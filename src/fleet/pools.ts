import { MayflyError } from "../domain/errors.ts";
import type { Pool } from "../domain/pool.ts";
import type { Forge } from "../forges/forge.ts";
import type { Provider } from "../providers/provider.ts";

/** A pool with its limits filled in from its provider, or `invalid` when it could never work. */
export function checkedPool(
  pool: Pool,
  {
    forges,
    providers,
  }: {
    readonly forges: ReadonlyMap<string, Forge>;
    readonly providers: ReadonlyMap<string, Provider>;
  },
): Pool {
  const where = `pools.${pool.name}`;
  const provider = providers.get(pool.provider);
  if (provider === undefined) {
    throw new MayflyError("invalid", `there is no provider ${pool.provider}`, {
      where: `${where}.provider`,
      hint: `The configured ones: ${[...providers.keys()].join(", ")}.`,
    });
  }
  if (!forges.has(pool.forge)) {
    throw new MayflyError("invalid", `there is no forge ${pool.forge}`, {
      where: `${where}.forge`,
      hint: `The configured ones: ${[...forges.keys()].join(", ")}.`,
    });
  }
  const { accepts, maximum } = provider.lends();
  const unsafe = pool.accept.find((trust) => !accepts.includes(trust));
  if (unsafe !== undefined) {
    throw new MayflyError(
      "invalid",
      `provider ${pool.provider} does not isolate well enough for ${unsafe} jobs`,
      {
        where: `${where}.accept`,
        hint: `It takes only: ${accepts.join(", ")}. Use another provider, or accept less.`,
      },
    );
  }
  if (pool.learn?.unit === "usd" && provider.price(pool.size).microUsdPerHour === 0) {
    throw new MayflyError("invalid", `machines of provider ${pool.provider} cost nothing`, {
      where: `${where}.learn`,
      hint: 'Limit them by time instead: write machine-hours, like "100h".',
    });
  }
  return { ...pool, maximum: pool.maximum ?? maximum };
}

/** What is left of a pool that is no longer configured: it makes nothing, and brings its runners home. */
export function closedPool(left: {
  pool: string;
  forge: string;
  provider: string;
  size: Pool["size"];
}): Pool {
  return {
    name: left.pool,
    forge: left.forge,
    provider: left.provider,
    labels: [],
    size: left.size,
    maximum: null,
    allow: [],
    deny: [],
    accept: [],
    max: 0,
    min: 0,
    warm: 0,
    schedule: [],
    learn: null,
    caps: { perRepository: null, perOwner: null },
    image: null,
    network: false,
    bootDeadlineSeconds: 60,
    idleSeconds: 0,
    jobDeadlineSeconds: 6 * 3600,
  };
}
