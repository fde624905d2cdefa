import type { Fault, Faults } from "./faults.ts";

const windowMs = 90_000;

/** Whether `who` answers nothing at this time: some whole windows of time are lost to it. */
export function inOutage(
  fault: Fault,
  who: string,
  { faults, now }: { faults: Faults; now: number },
): boolean {
  return faults.strikes(fault, `${who}/${Math.floor(now / windowMs)}`, 0.3);
}
