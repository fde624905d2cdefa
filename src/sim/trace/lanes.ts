import { classesOf, placeKinds } from "./placing.ts";
import type { Policy, PoolPolicy } from "./policy.ts";
import { PoolState, type PoolClass } from "./pool-state.ts";
import { jobLinks } from "./queue.ts";
import { newPoolRun, type PoolRun } from "./run.ts";
import type { ProviderModel, Setting } from "./setting.ts";
import type { Trace } from "./trace.ts";

/** A pool under its policy, in one run. */
export interface Lane {
  readonly state: PoolState;
  readonly policy: PoolPolicy;
  readonly provider: ProviderModel;
  readonly run: PoolRun;
  /** When the policy wants to be called. */
  nextAt: number;
  /** Something happened that wakes it before. */
  isStirred: boolean;
}

/** Where jobs of one kind go: a class of a lane, or nowhere. */
export type Route = { readonly lane: Lane; readonly of: PoolClass } | { readonly reason: string };

export interface Lanes {
  readonly lanes: readonly Lane[];
  /** By the kinds of the trace. */
  readonly routes: readonly Route[];
}

/** A lane for each pool of the setting, all of them as yet empty. */
export function openLanes(trace: Trace, setting: Setting, policy: Policy): Lanes {
  const places = placeKinds(trace.kinds, setting);
  const links = {
    queuedAt: trace.queuedAt,
    inPool: jobLinks(trace.count),
    inClass: jobLinks(trace.count),
  };
  const lanes = new Map(
    setting.pools.map((pool) => {
      const provider = setting.providers.get(pool.provider);
      if (provider === undefined) throw new Error(`no model of provider ${pool.provider}`);
      const opened = policy.open(pool, provider);
      const sets = classesOf(pool, places);
      const { slots } = opened.machine;
      const state = new PoolState(pool, sets, setting.ruleOf(pool.forge), links, slots);
      const run = newPoolRun(pool.name, pool.provider);
      const nextAt = trace.queuedAt[0] ?? 0;
      const lane: Lane = { state, policy: opened, provider, run, nextAt, isStirred: false };
      return [pool, lane] as const;
    }),
  );
  const routes = places.map((place): Route => {
    if (place.pool === null) return { reason: place.reason };
    const lane = lanes.get(place.pool)!;
    return { lane, of: lane.state.classes.get(place.key)! };
  });
  return { lanes: [...lanes.values()], routes };
}
