/** One measured figure beside its limit, both from the same run. */
export interface Measure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What `value` is compared with: another measured figure, or a fixed bound. */
  readonly limit: number;
  readonly limitName: string;
  /** `at most`: the ratio value/limit may not exceed `goal`; `at least`: nor fall below it. */
  readonly sense: "at most" | "at least";
  readonly goal: number;
}

export interface Bench {
  readonly name: string;
  readonly about: string;
  run(): Promise<readonly Measure[]>;
}

export function ratio({ value, limit }: Measure): number {
  return value / limit;
}

export function isMet(measure: Measure): boolean {
  const is = ratio(measure);
  return measure.sense === "at most" ? is <= measure.goal : is >= measure.goal;
}

/** The value below which `share` (0 to 1) of the samples lie. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}
