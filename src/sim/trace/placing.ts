import { labelClass, place } from "../../domain/matching.ts";
import { warmClass } from "../../domain/planner.ts";
import type { Pool } from "../../domain/pool.ts";
import type { Size } from "../../domain/size.ts";
import type { Setting } from "./setting.ts";
import type { DemandKind } from "./trace.ts";

/** Where jobs of one kind go. */
export type Place =
  ({ readonly pool: Pool } & LabelSet) | { readonly pool: null; readonly reason: string };

/**
 * Where each kind of job goes in a setting, by Mayfly's own rules. A trace does not know of forges,
 * so each forge of the setting is asked in turn, and one without labels asks for what the first
 * pool offers.
 */
export function placeKinds(kinds: readonly DemandKind[], setting: Setting): Place[] {
  const { pools, ruleOf } = setting;
  const forges = [...new Set(pools.map(({ forge }) => forge))];
  return kinds.map(({ labels: given, trust }) => {
    const labels = given ?? pools[0]?.labels ?? [];
    const reasons: string[] = [];
    for (const forge of forges) {
      const placement = place({ forge, labels, trust }, pools, ruleOf(forge));
      if (placement.pool !== null) {
        return { pool: placement.pool, key: labelClass(labels), labels, size: placement.size };
      }
      reasons.push(placement.reason);
    }
    return { pool: null, reason: reasons.join("; ") || "there is no pool" };
  });
}

/** A class of labels in one pool: of jobs, of machines, or of both. */
export interface LabelSet {
  readonly key: string;
  readonly labels: readonly string[];
  readonly size: Size;
}

/** The classes that jobs of these kinds have in a pool, and the pool's own. */
export function classesOf(pool: Pool, places: readonly Place[]): LabelSet[] {
  const own = { key: warmClass(pool), labels: pool.labels, size: pool.size };
  const sets = new Map<string, LabelSet>([[own.key, own]]);
  for (const place of places) {
    if (place.pool === pool && !sets.has(place.key)) sets.set(place.key, place);
  }
  return [...sets.values()];
}

/**
 * Finds which classes of jobs a machine may take, without comparing each with each: label classes
 * may be unique to one run, a hundred thousand of them. A job's rarest label must be among the
 * machine's, whatever the forge.
 */
export class Suiting<T extends LabelSet> {
  /** One class by itself where there is one: an array for each would be most of the memory. */
  readonly #byRarest = new Map<string, T | T[]>();
  readonly #rule: (asked: readonly string[], offered: readonly string[]) => boolean;

  constructor(
    classes: readonly T[],
    rule: (asked: readonly string[], offered: readonly string[]) => boolean,
  ) {
    this.#rule = rule;
    const uses = new Map<string, number>();
    for (const { labels } of classes) {
      for (const label of folded(labels)) uses.set(label, (uses.get(label) ?? 0) + 1);
    }
    for (const one of classes) {
      const [rarest = none] = folded(one.labels).sort((a, b) => uses.get(a)! - uses.get(b)!);
      const others = this.#byRarest.get(rarest);
      if (others === undefined) this.#byRarest.set(rarest, one);
      else if (Array.isArray(others)) others.push(one);
      else this.#byRarest.set(rarest, [others, one]);
    }
  }

  /** The classes whose jobs a machine of class `machine` may take; its own is the first. */
  takenBy(machine: T): T[] {
    const near = [none, ...folded(machine.labels)].flatMap((one) => this.#byRarest.get(one) ?? []);
    const others = near.filter((one) => one !== machine && this.#rule(one.labels, machine.labels));
    return this.#rule(machine.labels, machine.labels) ? [machine, ...others] : others;
  }
}

/** Stands for the label of a job that asks for none. */
const none = "";

/** Each label once, as the least exact of the forges' rules tells them apart. */
function folded(labels: readonly string[]): string[] {
  return [...new Set(labels.map((label) => label.toLowerCase()))];
}
