import type { BrokerSettings } from "../domain/broker.ts";
import { MayflyError } from "../domain/errors.ts";
import type { LoanCounts } from "../domain/loan.ts";
import { formatUsd } from "../domain/money.ts";
import { counted } from "../domain/words.ts";

/** What an order asks for that does not exist yet. */
export interface Wanted {
  readonly machines: number;
  /** What they cost at most. */
  readonly microUsd: number;
}

type Limits = Pick<
  BrokerSettings,
  "perRun" | "perRepository" | "perAddress" | "perHour" | "microUsdPerDay"
>;

/** From this share of the day's budget on the operator is told. */
const alertShare = 0.8;

/**
 * Why an order may not be had beside what has been lent; null: it may. Caps that end by themselves
 * are `too_many` (ask again), the others final.
 */
export function objection(counts: LoanCounts, wanted: Wanted, limits: Limits): MayflyError | null {
  if (counts.ofRun >= limits.perRun) {
    return new MayflyError("conflict", "this attempt of the run has had its machines", {
      hint: "Run the workflow again as a whole: each attempt gets its own.",
    });
  }
  if (counts.openOfRepository + wanted.machines > limits.perRepository) {
    return tooMany(`the repository has ${counted(counts.openOfRepository, "machine")} already`);
  }
  if (counts.lastHourOfAddress + wanted.machines > limits.perAddress) {
    return tooMany("this address has had its machines of an hour");
  }
  if (counts.lastHour + wanted.machines > limits.perHour) {
    return tooMany("all machines of this hour are lent");
  }
  if (counts.todayMicroUsd + wanted.microUsd > limits.microUsdPerDay) {
    const left = Math.max(0, limits.microUsdPerDay - counts.todayMicroUsd);
    const asked = formatUsd(wanted.microUsd);
    return new MayflyError(
      "forbidden",
      `today's budget has ${formatUsd(left)} left, and this may cost ${asked}`,
      { hint: "It is renewed at midnight UTC." },
    );
  }
  return null;
}

/** How the day's budget stands. */
export function budgetState(
  todayMicroUsd: number,
  { microUsdPerDay }: Pick<BrokerSettings, "microUsdPerDay">,
): "well" | "low" {
  // Where machines cost nothing, nothing runs low.
  if (todayMicroUsd === 0) return "well";
  return todayMicroUsd >= microUsdPerDay * alertShare ? "low" : "well";
}

function tooMany(message: string): MayflyError {
  return new MayflyError("too_many", message, { hint: "Ask again in some minutes." });
}
