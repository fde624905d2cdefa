import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

/** What there is, or null or false while there is nothing yet. */
export type Look<T> = () => Promise<T | null | false> | T | null | false;

export interface UntilOptions {
  /** Long beyond what it takes: a busy host is ten times as slow as another. Default: two minutes. */
  readonly withinMs?: number;
  /** What to show when it never comes, such as what a process said. */
  readonly told?: () => string | undefined;
}

/** Looks until there is something, and resolves to it. Fails, naming `what`, after too long. */
export async function until<T>(
  what: string,
  look: Look<T>,
  { withinMs = 120_000, told }: UntilOptions = {},
): Promise<T> {
  const end = Date.now() + withinMs;
  for (;;) {
    const seen = await look();
    if (seen !== null && seen !== false) return seen;
    assert.ok(Date.now() < end, `never: ${what}\n${told?.() ?? ""}`);
    await sleep(50);
  }
}
