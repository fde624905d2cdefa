/*
 * Small helpers for the sentences that Mayfly says about what it decides. Much in them comes from
 * outside (a label, a provider's message), so everything has a bound.
 */

/** `text` cut to `most` characters, the cut shown by an ellipsis; never half of a character. */
export function clip(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = most - 1;
  const splitsPair = text.codePointAt(end - 1)! > 0xffff;
  return `${text.slice(0, splitsPair ? end - 1 : end)}…`;
}

const unprintable = /[\p{Cc}\p{Zl}\p{Zp}]/gu;

/** A word from outside, in quotes: one line, at most 60 characters, none that a terminal obeys. */
export function quote(word: string): string {
  return `"${clip(word, 60).toWellFormed().replace(unprintable, "\ufffd")}"`;
}

/** `a, b and c`; of many only the first `most`: `a, b and 7 more`. */
export function listed(items: readonly string[], most = 5): string {
  const shown = items.slice(0, most);
  const rest = items.length - shown.length;
  if (rest > 0) shown.push(`${rest} more`);
  const last = shown.pop() ?? "";
  return shown.length === 0 ? last : `${shown.join(", ")} and ${last}`;
}

/** `1 job`, `3 jobs`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * The word that a misspelt one was probably meant to be, or null when none is near. Near is one
 * slip for every three letters (a letter missing, added, wrong, or swapped with the next), or the
 * one word being the beginning of the other.
 */
export function nearest(word: string, known: readonly string[]): string | null {
  const meant = clip(word.toLowerCase(), 40);
  let best: string | null = null;
  let bestSlips = Math.max(1, Math.floor(meant.length / 3)) + 1;
  for (const candidate of known) {
    const slips = slipsBetween(meant, candidate.toLowerCase());
    if (slips < bestSlips) [best, bestSlips] = [candidate, slips];
  }
  return best ?? known.find((candidate) => sharesBeginning(meant, candidate.toLowerCase())) ?? null;
}

function sharesBeginning(a: string, b: string): boolean {
  return Math.min(a.length, b.length) >= 3 && (a.startsWith(b) || b.startsWith(a));
}

/** The optimal string alignment distance, by rows. */
function slipsBetween(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let slips = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) slips = Math.min(slips, beforeLast[j - 2]! + 1);
      row.push(slips);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length]!;
}
