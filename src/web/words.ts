import { parseLabelClass } from "../domain/matching.ts";
import type { Size } from "../domain/size.ts";
import type { JobOutcome } from "../domain/job.ts";

/* How times, lengths and amounts are said to people. */

const units: readonly (readonly [seconds: number, name: string])[] = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
  [1, "s"],
];

/** A length of time in its two largest units: `850 ms`, `12 s`, `3 min 20 s`, `2 d 4 h`. */
export function duration(ms: number): string {
  const length = Math.max(0, ms);
  if (length < 1000) return `${Math.round(length)} ms`;
  let seconds = Math.round(length / 1000);
  const words: string[] = [];
  for (const [each, name] of units) {
    const count = Math.floor(seconds / each);
    seconds -= count * each;
    if (count > 0) words.push(`${count} ${name}`);
    if (words.length === 2 || (words.length === 1 && count === 0)) break;
  }
  return words.join(" ");
}

/** A moment as seen from now, in its largest unit: `12 s ago`, `in 3 min`, `just now`. */
export function relative(at: number, now: number): string {
  const seconds = Math.round(Math.abs(now - at) / 1000);
  const [each, name] = units.find(([unit]) => seconds >= unit) ?? [1, "s"];
  if (seconds < 1) return "just now";
  const text = `${Math.floor(seconds / each)} ${name}`;
  return at > now ? `in ${text}` : `${text} ago`;
}

/** `2026-01-31 13:05:09 UTC`. */
export function exactTime(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** `812 B`, `3.4 kB`, `12 MB`: thousands, as disks are sold. */
export function bytesText(bytes: number): string {
  const names = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let index = 0;
  while (value >= 1000 && index < names.length - 1) {
    value /= 1000;
    index += 1;
  }
  return `${index === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${names[index] ?? ""}`;
}

/** `2 cpu, 4 GB, 20 GB disk, arm64`: what a person would ask first. */
export function sizeText(size: Size): string {
  const gigabytes = Math.round(size.memoryMb / 102.4) / 10;
  const memory = size.memoryMb < 1024 ? `${size.memoryMb} MB` : `${gigabytes} GB`;
  const parts = [`${size.cpu} cpu`, memory, `${size.diskGb} GB disk`];
  if (size.gpu > 0) parts.push(`${size.gpu} gpu`);
  if (size.architecture !== "x64") parts.push(size.architecture);
  return parts.join(", ");
}

/** The labels of a class, or the key itself should it be none. */
export function labelsOf(labelClass: string): readonly string[] {
  try {
    return parseLabelClass(labelClass);
  } catch {
    return [labelClass];
  }
}

export const outcomeWords: Readonly<Record<JobOutcome, string>> = {
  success: "succeeded",
  failure: "failed",
  cancelled: "cancelled",
  skipped: "skipped",
  timed_out: "timed out",
  lost: "lost its machine",
  refused: "refused",
  error: "could not be prepared",
};

/** A URL without the password somebody may have put into it. */
export function withoutPassword(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@\s]*@/i, "$1");
}
