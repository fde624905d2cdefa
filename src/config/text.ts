import type { WarmBudget } from "../domain/pool.ts";

/*
 * What people write for amounts and times, read without a schema, so that a command that needs
 * only one of them starts fast.
 */

const secondsOf: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };
const durationMaxSeconds = 30 * 86_400;

/** `90s`, `5m`, `2h`, `1h30m` in seconds; null: it is none, or longer than 30 days. */
export function parseDuration(text: string): number | null {
  const parts = [...text.trim().matchAll(/(\d{1,7})\s*([smhd])\s*/gy)];
  const length = parts.reduce((sum, [whole]) => sum + whole.length, 0);
  if (parts.length === 0 || length !== text.trim().length) return null;
  const seconds = parts.reduce((sum, [, n, unit = ""]) => sum + Number(n) * secondsOf[unit]!, 0);
  return seconds > 0 && seconds <= durationMaxSeconds ? seconds : null;
}

export interface Listen {
  readonly host: string;
  readonly port: number;
}

/** `127.0.0.1:8420`, `:8420`, `8420`, `[::1]:8420`; null: it is no address. */
export function parseListen(text: string): Listen | null {
  const [, v6, name, digits] =
    /^(?:(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]*)):)?(\d{1,5})$/i.exec(text.trim()) ?? [];
  const port = Number(digits ?? NaN);
  if (!(port <= 65_535)) return null;
  return { host: (v6 ?? name) || "127.0.0.1", port };
}

export const dayNames = [
  "sunday",
  "monday",
  "tuesday",
  "wednesday",
  "thursday",
  "friday",
  "saturday",
];

/** `mon-fri` or `saturday` as numbers, 0 being Sunday; a range may run past Saturday. */
export function parseDays(text: string): number[] | null {
  const [first = -1, last = first, ...rest] = text.toLowerCase().split("-").map(dayNumber);
  if (first < 0 || last < 0 || rest.length > 0) return null;
  const count = ((last - first + 7) % 7) + 1;
  return Array.from({ length: count }, (_, index) => (first + index) % 7);
}

function dayNumber(text: string): number {
  const name = text.trim();
  return name.length < 3 ? -1 : dayNames.findIndex((day) => day.startsWith(name));
}

/** `08:00-18:00` as minutes after midnight. `24:00` is allowed as an end. Null: it is none. */
export function parseHours(text: string): { from: number; to: number } | null {
  const [from = -1, to = -1, ...rest] = text.split("-").map((time) => {
    const [, hour, minute] = /^\s*(\d{1,2}):([0-5]\d)\s*$/.exec(time) ?? [];
    return hour === undefined ? -1 : Number(hour) * 60 + Number(minute);
  });
  const isRight = rest.length === 0 && from >= 0 && from < 1440 && to >= 0 && to <= 1440;
  return isRight && from !== to ? { from, to } : null;
}

const budgetMax = 1_000_000;

/** `100h` (machine-hours) or `$20`; null: it is none, nothing, or beyond a million. */
export function parseBudget(text: string): WarmBudget | null {
  const [, usd, hours] =
    /^\s*(?:\$\s*(\d{1,7}(?:\.\d+)?)|(\d{1,7}(?:\.\d+)?)\s*h)\s*$/.exec(text) ?? [];
  const amount = Number(usd ?? hours ?? NaN);
  if (!(amount > 0 && amount <= budgetMax)) return null;
  return { unit: usd === undefined ? "hours" : "usd", amount };
}
