import { labelClass } from "./matching.ts";
import type { Pool } from "./pool.ts";
import { warmAt } from "./schedule.ts";
import { shareInTurn } from "./share.ts";
import { clip, counted } from "./words.ts";

/*
 * The planner: what a pool should do now, from counts alone. It never pairs a job with a machine,
 * for a forge gives a job to any runner that matches, and it keeps nothing between calls, so that
 * lost, doubled and reordered news cost time and never correctness.
 */

/** Machines and jobs of one label class in one pool. */
export interface ClassCount {
  readonly labelClass: string;
  /** Jobs that wait for a machine. */
  readonly waiting: number;
  /** Runners `claimed` or `asked`. */
  readonly booting: number;
  /** Runners `up`. */
  readonly idle: number;
  /** Runners `started`. */
  readonly busy: number;
  /** When it began to want machines, or to have too many (ms). */
  readonly since: number;
}

/** All classes of a pool together. */
export interface PoolTotal {
  readonly waiting: number;
  readonly booting: number;
  readonly idle: number;
  readonly busy: number;
  /** Runners `ended`: being removed, and until then counted against the pool's maximum. */
  readonly ending: number;
}

/**
 * What the planner is shown. The lists are bounded by the caller, so that a plan costs the same
 * however many classes wait.
 */
export interface PoolView {
  readonly pool: Pool;
  readonly now: number;
  readonly total: PoolTotal;
  /**
   * Classes with more jobs waiting than runners booting and idle, the longest waiting of them: one
   * more than there is room for in the pool is all that a plan can use.
   */
  readonly wanting: readonly ClassCount[];
  /**
   * Classes with more runners booting and idle than jobs waiting. Those to be kept warm are among
   * them, where they have any.
   */
  readonly surplus: readonly ClassCount[];
  /** What a forecast wants kept ready, beside what the pool itself says; null or absent: nothing. */
  readonly learned?: readonly WarmTarget[];
  /** Set while the provider shall not be asked for machines. */
  readonly backOff: { readonly until: number; readonly reason: string } | null;
}

/** So many machines of a class shall be ready for jobs to come. */
export interface WarmTarget {
  readonly labelClass: string;
  readonly count: number;
  /** Why so many, in words. */
  readonly reason: string;
}

export type PlanAction =
  | {
      readonly kind: "claim";
      readonly labelClass: string;
      readonly count: number;
      readonly reason: string;
    }
  | {
      readonly kind: "retire";
      readonly labelClass: string;
      readonly count: number;
      /** Which ones: those still booting, or those idle for at least so long. */
      readonly state: "booting" | "idle";
      readonly idleForSeconds: number;
      readonly reason: string;
    }
  /** Why waiting jobs get nothing now. Null: it holds for every class of the pool. */
  | {
      readonly kind: "hold";
      readonly labelClass: string | null;
      readonly count: number;
      readonly until: number | null;
      readonly reason: string;
    };

/**
 * An idle machine of another class may suit a waiting job after all: its forge needs this long to
 * say so. Only then is the machine given up to make room.
 */
const patienceMs = 30_000;

/**
 * What to do now: claims for what waits, then claims to keep machines warm, machines to let go, and
 * why the rest has to wait. Costs a sort of the classes given.
 *
 * Warm machines offer the pool's own labels and have its default size, so they are of the class of
 * those labels (`warmClass`) and count as supply for that class alone. A job with fewer labels may
 * still get one by the forge's rule; then the machine made for the job idles instead, and goes.
 */
export function plan(view: PoolView): readonly PlanAction[] {
  const { pool, total } = view;
  const wanting = view.wanting.filter((one) => spareOf(one) < 0).sort(longestFirst);
  const surplus = view.surplus.filter((one) => spareOf(one) > 0).sort(longestFirst);
  const live = total.booting + total.idle + total.busy;
  const backOff = view.backOff !== null && view.now < view.backOff.until ? view.backOff : null;
  const room = backOff !== null ? 0 : Math.max(0, pool.max - live - total.ending);

  const grants = shareInTurn(
    wanting.map((one) => -spareOf(one)),
    room,
  );
  const granted = sum(grants);
  const unmet = wanting.map((one, index) => -spareOf(one) - grants[index]!);
  const patient = wanting.map((one) => view.now - one.since >= patienceMs);
  const blocked = backOff !== null ? 0 : sum(unmet.filter((_, index) => patient[index]));
  // Machines being removed make room by themselves; what is beyond that has to be given up.
  const tooMany = live + granted + blocked - pool.max;

  return [
    ...claimWanted(view, wanting, grants),
    ...claimKept(view, surplus, room - granted, live + granted),
    ...(tooMany > 0 ? giveUp(pool, surplus, tooMany, blocked) : retireIdle(view, surplus, live)),
    ...hold(
      pool,
      total,
      backOff,
      Math.max(sum(unmet), total.waiting - total.booting - total.idle - granted),
    ),
  ];
}

/** The class of the runners that a pool keeps ready. */
export function warmClass(pool: Pool): string {
  return labelClass(pool.labels);
}

function claimWanted(
  { pool, total }: PoolView,
  wanting: readonly ClassCount[],
  grants: readonly number[],
): PlanAction[] {
  return wanting.flatMap(({ labelClass, waiting, booting, idle }, index) => {
    const count = grants[index]!;
    if (count === 0) return [];
    const supply = `${counted(waiting, "job")} waiting, ${booting} booting, ${idle} idle`;
    return {
      kind: "claim" as const,
      labelClass,
      count,
      reason: `${supply}; ${aliveText(pool, total)}`,
    };
  });
}

/** With the room that jobs leave: up to the warm machines, and up to the least number alive. */
function claimKept(
  view: PoolView,
  surplus: readonly ClassCount[],
  room: number,
  alive: number,
): PlanAction[] {
  const { pool, total } = view;
  const ownClass = warmClass(pool);
  const actions: PlanAction[] = [];
  let left = room;
  for (const { labelClass, count: kept, reason: why } of warmTargets(view)) {
    const spare = surplus.find((one) => one.labelClass === labelClass);
    const ready = spare === undefined ? 0 : spareOf(spare);
    const least = labelClass === ownClass ? pool.min - alive : 0;
    const count = Math.min(left, Math.max(kept - ready, least));
    if (count <= 0) continue;
    left -= count;
    const reason =
      kept - ready >= least ? `${why}, ${ready} ready` : `at least ${pool.min} to be kept alive`;
    actions.push({
      kind: "claim",
      labelClass,
      count,
      reason: `${reason}; ${aliveText(pool, total)}`,
    });
  }
  return actions;
}

/** What is to be kept ready: the pool's own first, by its configuration or, if more, as learned. */
function warmTargets({ pool, now, learned = [] }: PoolView): readonly WarmTarget[] {
  const ownClass = warmClass(pool);
  const warm = warmAt(pool, now);
  const own = learned.find(({ labelClass }) => labelClass === ownClass);
  const configured = { labelClass: ownClass, count: warm, reason: `${warm} to be kept warm` };
  return [
    own !== undefined && own.count > warm ? own : configured,
    ...learned.filter(({ labelClass }) => labelClass !== ownClass),
  ];
}

/** Lets go of machines nobody waits for, warm or not: what boots before what could serve at once. */
function giveUp(
  pool: Pool,
  surplus: readonly ClassCount[],
  tooMany: number,
  blocked: number,
): PlanAction[] {
  const why = blocked > 0 ? `${counted(blocked, "job")} of other labels waiting` : "too many alive";
  const reason = `no job wants it, ${why}, at most ${pool.max} alive`;
  let left = tooMany;
  const actions: PlanAction[] = [];
  for (const state of ["booting", "idle"] as const) {
    for (const one of surplus) {
      const unwanted = state === "booting" ? spareOf(one) : one.idle - one.waiting;
      const count = Math.min(left, unwanted, one[state]);
      if (count <= 0) continue;
      left -= count;
      const { labelClass } = one;
      actions.push({ kind: "retire", labelClass, count, state, idleForSeconds: 0, reason });
    }
  }
  return actions;
}

/**
 * Lets go of machines idle for too long, beyond the warm ones and the least number alive. What
 * still boots is left to come up: a job may be on its way.
 */
function retireIdle(view: PoolView, surplus: readonly ClassCount[], live: number): PlanAction[] {
  const { pool, now } = view;
  const warm = new Map(warmTargets(view).map(({ labelClass, count }) => [labelClass, count]));
  const idleForSeconds = pool.idleSeconds;
  let left = live - pool.min;
  const actions: PlanAction[] = [];
  for (const { labelClass, idle, waiting, since } of surplus) {
    const kept = waiting + (warm.get(labelClass) ?? 0);
    const count = Math.min(left, idle - kept);
    if (count <= 0 || now - since < idleForSeconds * 1000) continue;
    left -= count;
    const reason = `${idle} idle, ${kept} wanted; an idle machine is kept ${idleForSeconds} s`;
    actions.push({ kind: "retire", labelClass, count, state: "idle", idleForSeconds, reason });
  }
  return actions;
}

function hold(
  pool: Pool,
  total: PoolTotal,
  backOff: PoolView["backOff"],
  count: number,
): PlanAction[] {
  if (count <= 0) return [];
  const because = (why: string, until: number | null): PlanAction[] => {
    const reason = `${counted(count, "job")} waiting: ${why}`;
    return [{ kind: "hold", labelClass: null, count, until, reason }];
  };
  if (pool.max === 0) return because(`pool ${pool.name} is closed (max 0)`, null);
  if (backOff !== null) return because(clip(backOff.reason, 300), backOff.until);
  return because(aliveText(pool, total), null);
}

/** Runners that no waiting job of the class needs; below zero, jobs that no runner is there for. */
export function spareOf({ waiting, booting, idle }: ClassCount): number {
  return booting + idle - waiting;
}

function longestFirst(a: ClassCount, b: ClassCount): number {
  return a.since - b.since || (a.labelClass < b.labelClass ? -1 : 1);
}

function aliveText(pool: Pool, { booting, idle, busy, ending }: PoolTotal): string {
  const alive = booting + idle + busy + ending;
  const states = Object.entries({ booting, idle, busy, "being removed": ending })
    .filter(([, count]) => count > 0)
    .map(([state, count]) => `${count} ${state}`);
  const which = states.length === 0 ? "" : ` (${states.join(", ")})`;
  return `${alive} of at most ${counted(pool.max, "machine")} alive${which}`;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
