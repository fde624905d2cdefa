import type { Pool, WarmWindow } from "./pool.ts";

/** How many idle machines a pool keeps ready at this moment (ms): by the first window that holds. */
export function warmAt(pool: Pool, now: number): number {
  return pool.schedule.find((window) => holdsAt(window, now))?.warm ?? pool.warm;
}

const minutesADay = 24 * 60;

/** A window from a minute to the same minute is a whole day. */
function holdsAt({ days, from, to }: WarmWindow, now: number): boolean {
  const moment = new Date(now);
  const minute = moment.getUTCHours() * 60 + moment.getUTCMinutes();
  const beganToday = minute >= from;
  const day = (moment.getUTCDay() + (beganToday ? 0 : 6)) % 7;
  const sinceFrom = minute - from + (beganToday ? 0 : minutesADay);
  const length = to > from ? to - from : to - from + minutesADay;
  return sinceFrom < length && (days.length === 0 || days.includes(day));
}
