import { stepMs } from "../../domain/forecast.ts";
import { Learner, type Arrivals, type ReadyView } from "../../domain/learner.ts";
import { MayflyError } from "../../domain/errors.ts";
import { labelClass } from "../../domain/matching.ts";
import type { WarmTarget } from "../../domain/planner.ts";
import type { Pool } from "../../domain/pool.ts";
import { placeKinds } from "./placing.ts";
import type { ProviderModel, Setting } from "./setting.ts";
import type { Trace } from "./trace.ts";

/** As the fleet's: jobs of the last steps are not counted yet, for news of them may be late. */
const lagMs = 2 * stepMs;

/** A pool that learns, in a simulation: the learner of the fleet, told of the trace's jobs. */
export interface Warmth {
  /** When its answer may be another though nothing happened, ms. */
  readonly nextAt: number;
  /** Classes it has something to say of. */
  readonly classes: readonly string[];
  targets(view: ReadyView, newlyQueued: ReadonlyMap<string, number>): readonly WarmTarget[];
}

/** Null: the pool does not learn. `before` is what came before the run. */
export function openWarmth(
  pool: Pool,
  provider: ProviderModel,
  before: readonly Arrivals[],
): Warmth | null {
  if (pool.learn === null) return null;
  const learner = new Learner(pool.learn);
  const dollars = provider.price(pool.size).microUsdPerHour / 1e6;
  if (pool.learn.unit === "usd" && dollars === 0) {
    throw new MayflyError("invalid", `machines of provider ${pool.provider} cost nothing`, {
      where: `pools.${pool.name}.learn`,
      hint: 'Limit them by time instead: write machine-hours, like "100h"; or see --price.',
    });
  }
  const unitsPerHour = pool.learn.unit === "hours" ? () => 1 : () => dollars;
  let fresh: Arrivals[] = [];
  let nextAt = -Infinity;
  let isTaught = false;
  return {
    get nextAt() {
      return nextAt;
    },
    get classes() {
      return learner.classes;
    },
    targets: (view, newlyQueued) => {
      const { now } = view;
      if (!isTaught) learner.fold(now - lagMs, before);
      isTaught = true;
      const at = Math.floor(now / stepMs) * stepMs;
      for (const [key, count] of newlyQueued) fresh.push({ labelClass: key, at, count });
      if (learner.until !== null && now - learner.until >= lagMs + stepMs) {
        const until = Math.floor((now - lagMs) / stepMs) * stepMs;
        learner.fold(
          until,
          fresh.filter((one) => one.at < until),
        );
        fresh = fresh.filter((one) => one.at >= until);
      }
      nextAt = at + stepMs;
      return learner.targets(view, fresh, unitsPerHour);
    },
  };
}

/** When the jobs of a trace came, by pool: what a server of this setting would have been told. */
export function arrivalsOf(trace: Trace, setting: Setting): ReadonlyMap<string, Arrivals[]> {
  const places = placeKinds(trace.kinds, setting);
  type Step = { labelClass: string; at: number; count: number };
  const byPool = new Map<string, Map<string, Step>>();
  for (let job = 0; job < trace.count; job++) {
    const place = places[trace.kind[job]!]!;
    if (place.pool === null) continue;
    const steps = byPool.get(place.pool.name) ?? new Map<string, Step>();
    byPool.set(place.pool.name, steps);
    const at = Math.floor(trace.queuedAt[job]! / stepMs) * stepMs;
    const key = labelClass(place.labels);
    const step = steps.get(`${at} ${key}`) ?? { labelClass: key, at, count: 0 };
    step.count++;
    steps.set(`${at} ${key}`, step);
  }
  return new Map([...byPool].map(([pool, steps]) => [pool, [...steps.values()]]));
}
