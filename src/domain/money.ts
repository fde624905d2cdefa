import { MayflyError } from "./errors.ts";

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

const microUsd = 1_000_000;
const dearestUsdPerHour = 1000;

/**
 * A price as a configuration gives it: US dollars an hour, and the provider's billing steps in
 * seconds (by default each second counts and none is the least). Throws `invalid`.
 */
export function parsePrice(
  usdPerHour: number,
  billing: { quantumSeconds?: number; minimumSeconds?: number } = {},
): Price {
  const { quantumSeconds = 1, minimumSeconds = 0 } = billing;
  if (!(usdPerHour >= 0 && usdPerHour <= dearestUsdPerHour)) {
    throw new MayflyError("invalid", `a price of ${usdPerHour} dollars an hour`, {
      hint: `write US dollars an hour, from 0 to ${dearestUsdPerHour}`,
    });
  }
  if (!Number.isInteger(quantumSeconds) || quantumSeconds < 1) {
    throw new MayflyError("invalid", `billing in steps of ${quantumSeconds} seconds`, {
      hint: "write a whole number of seconds, at least 1",
    });
  }
  if (!Number.isInteger(minimumSeconds) || minimumSeconds < 0) {
    throw new MayflyError("invalid", `billing of at least ${minimumSeconds} seconds`, {
      hint: "write a whole number of seconds, 0 for none",
    });
  }
  return { microUsdPerHour: Math.round(usdPerHour * microUsd), quantumSeconds, minimumSeconds };
}

/**
 * Micro-dollars for people: cents from a dollar on (`$12.35`), hundredths of a cent below it
 * (`$0.0123`), and never `$0.0000` for what did cost something.
 */
export function formatUsd(amountMicroUsd: number): string {
  if (amountMicroUsd < 0) return `-${formatUsd(-amountMicroUsd)}`;
  if (amountMicroUsd === 0) return "$0";
  if (amountMicroUsd < 100) return "<$0.0001";
  const usd = (amountMicroUsd / microUsd).toFixed(4);
  return `$${usd.startsWith("0.") ? usd : (amountMicroUsd / microUsd).toFixed(2)}`;
}
