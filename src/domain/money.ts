/** What a machine costs, whole micro-dollars an hour so that sums stay exact. */
export interface Price {
  readonly microUsdPerHour: number;
  /** Billed in steps of this many seconds: 1 on EC2, 3600 on Hetzner. */
  readonly quantumSeconds: number;
  /** Never billed for less: 60 on EC2. */
  readonly minimumSeconds: number;
}

/** A machine of one's own, already paid for. */
export const free: Price = { microUsdPerHour: 0, quantumSeconds: 1, minimumSeconds: 0 };

/**
 * What a machine that lived from `fromAt` to `untilAt` (milliseconds) costs, in micro-dollars,
 * rounded up to the provider's quantum. A clock that ran backwards costs the minimum.
 */
export function cost(price: Price, fromAt: number, untilAt: number): number {
  const lived = Math.max(0, untilAt - fromAt) / 1000;
  const billed = Math.max(price.minimumSeconds, lived);
  const quanta = Math.ceil(billed / price.quantumSeconds);
  return Math.ceil((price.microUsdPerHour * quanta * price.quantumSeconds) / 3600);
}
