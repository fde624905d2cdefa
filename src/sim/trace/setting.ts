import type { LabelRule } from "../../domain/matching.ts";
import type { Price } from "../../domain/money.ts";
import type { Pool } from "../../domain/pool.ts";
import type { Size } from "../../domain/size.ts";

/** What a trace is run against: pools, and what their providers' machines are like. */
export interface Setting {
  /** As people tell it from the others: a file's name, `pools.small.warm=2`. */
  readonly name: string;
  readonly pools: readonly Pool[];
  /** By the pools' `provider`. */
  readonly providers: ReadonlyMap<string, ProviderModel>;
  /** The rule of a forge, by the pools' `forge`. */
  readonly ruleOf: (forge: string) => LabelRule;
}

export interface ProviderModel {
  readonly boot: Boot;
  /** From being no longer wanted to being gone, ms: until then it costs and takes up room. */
  readonly endingMs: number;
  price(size: Size): Price;
}

/**
 * How long machines take from being asked for to being up: the quantiles of it in ms, evenly spaced
 * and sorted. One is a fixed time, two are everything between them.
 */
export interface Boot {
  readonly quantilesMs: readonly number[];
  /** Where the figures are from, for people: `measured on 212 machines`. */
  readonly from: string;
}

/** A boot time by chance (0 to 1): between the two quantiles it falls among. */
export function bootMs({ quantilesMs }: Boot, random01: number): number {
  const place = random01 * (quantilesMs.length - 1);
  const low = quantilesMs[Math.floor(place)] ?? 0;
  const high = quantilesMs[Math.ceil(place)] ?? low;
  return Math.round(low + (high - low) * (place - Math.floor(place)));
}

const quantilesKept = 101;

/** The distribution of measured boots, in any order; of none: at once. */
export function bootOf(measuredMs: readonly number[], from: string): Boot {
  const sorted = measuredMs.toSorted((a, b) => a - b);
  if (sorted.length <= quantilesKept) return { quantilesMs: sorted, from };
  const quantilesMs = Array.from({ length: quantilesKept }, (_, index) => {
    return sorted[Math.round((index / (quantilesKept - 1)) * (sorted.length - 1))]!;
  });
  return { quantilesMs, from };
}
