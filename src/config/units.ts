import { z } from "zod";
import { parseSize } from "../domain/capacity.ts";
import { MayflyError } from "../domain/errors.ts";
import type { WarmWindow } from "../domain/pool.ts";
import type { Size } from "../domain/size.ts";
import { nearest, quote } from "../domain/words.ts";
import {
  dayNames,
  parseBudget,
  parseDays,
  parseDuration,
  parseHours,
  parseListen,
} from "./text.ts";

/*
 * What people write for amounts, as schemas. Each message reads `what is wrong; what to do`.
 */

/** A duration, in seconds. */
export function duration(example: string) {
  return written([example], (text) => {
    const hint = 'write it like "90s", "5m" or "2h"';
    return parseDuration(text) ?? `${quote(text)} is no duration up to 30d; ${hint}`;
  });
}

/** A machine's size; what it leaves open is as in `base`. */
export function size(base: Size) {
  return written(["2cpu4gb"], (text) => {
    try {
      return parseSize(text, base);
    } catch (error) {
      if (error instanceof MayflyError) return `${error.message}; ${error.hint}`;
      throw error;
    }
  });
}

export const listen = written(["127.0.0.1:8420"], (text) => {
  return parseListen(text) ?? `${quote(text)} is no address; write it like "127.0.0.1:8420"`;
});

/** What may be spent in thirty days. */
export const budget = written(["100h"], (text) => {
  const hint = 'write machine-hours like "100h" or US dollars like "$20"';
  return parseBudget(text) ?? `${quote(text)} is no budget; ${hint}`;
});

const days = written(["mon-fri"], (text) => {
  const known = parseDays(text);
  if (known !== null) return known;
  const meant = nearest(text, dayNames);
  const hint = meant === null ? 'write it like "mon-fri" or "sat"' : `did you mean "${meant}"?`;
  return `${quote(text)} is no day; ${hint}`;
});

const hours = written(["08:00-18:00"], (text) => {
  return parseHours(text) ?? `${quote(text)} are no hours; write them like "08:00-18:00" (UTC)`;
});

/** A window of a pool's schedule. */
export const warmWindow = z
  .strictObject({
    days: z.array(days).max(7).optional().describe("Days it begins on. Default: every day."),
    hours: hours.optional().describe("From and to, UTC, also past midnight. Default: all day."),
    warm: z.int().min(0).max(10_000).describe("Idle machines kept ready meanwhile."),
  })
  .transform((window): WarmWindow => ({
    days: [...new Set(window.days?.flat() ?? [])].sort((a, b) => a - b),
    from: window.hours?.from ?? 0,
    to: window.hours?.to ?? 1440,
    warm: window.warm,
  }));

/** A text read by `parse`, which gives its value or, as a string, what is wrong with it. */
function written<T extends object | number>(
  examples: string[],
  parse: (text: string) => T | string,
) {
  return z
    .string()
    .max(200)
    .meta({ examples })
    .transform((text, context): T => {
      const value = parse(text);
      if (typeof value !== "string") return value;
      context.addIssue({ code: "custom", message: value });
      return z.NEVER;
    });
}
