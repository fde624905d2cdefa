import { html } from "hono/html";
import type { Html } from "./parts.ts";

/*
 * What programs paint on a terminal, as HTML: colours and weights become classes, every other
 * escape sequence and control character is dropped, and the text itself is always escaped.
 */

/** The look that a stream's text has now; it lasts over the ends of lines. */
export interface Look {
  /** 0 to 15, or null for the default. */
  readonly ink: number | null;
  readonly paper: number | null;
  readonly isBold: boolean;
  readonly isDim: boolean;
  readonly isItalic: boolean;
  readonly isUnderlined: boolean;
  readonly isInverse: boolean;
}

export const plainLook: Look = {
  ink: null,
  paper: null,
  isBold: false,
  isDim: false,
  isItalic: false,
  isUnderlined: false,
  isInverse: false,
};

/**
 * Control sequences (ECMA-48: `ESC [` parameters, intermediates, final), operating system commands
 * (ended by BEL or ST, or by the line), and the shorter escapes; all bounded by the line's length.
 */
const sequence =
  // oxlint-disable-next-line no-control-regex -- these are what it is for
  /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

/** One line of output, and the look that the next one begins with. */
export function paint(text: string, look: Look): { readonly html: Html; readonly look: Look } {
  const parts: Html[] = [];
  let now = look;
  let from = 0;
  for (const match of text.matchAll(sequence)) {
    addPart(parts, text.slice(from, match.index), now);
    from = match.index + match[0].length;
    if (match[2] === "m") now = changed(now, match[1] ?? "");
  }
  addPart(parts, text.slice(from), now);
  return { html: html`${parts}`, look: now };
}

function addPart(parts: Html[], text: string, look: Look): void {
  if (text === "") return;
  const classes = classesOf(look);
  parts.push(classes === "" ? html`${text}` : html`<span class="${classes}">${text}</span>`);
}

function classesOf(look: Look): string {
  const [ink, paper] = look.isInverse ? [look.paper, look.ink] : [look.ink, look.paper];
  const names: string[] = [];
  if (ink !== null) names.push(`ink-${ink}`);
  if (paper !== null) names.push(`paper-${paper}`);
  if (look.isInverse && ink === null && paper === null) names.push("inverse");
  if (look.isBold) names.push("bold");
  if (look.isDim) names.push("dim");
  if (look.isItalic) names.push("italic");
  if (look.isUnderlined) names.push("underlined");
  return names.join(" ");
}

/** Select Graphic Rendition: the numbers between `ESC [` and `m`. */
function changed(look: Look, parameters: string): Look {
  const numbers = parameters.split(/[;:]/).map(Number);
  let next = look;
  for (let index = 0; index < numbers.length; index++) {
    const number = numbers[index] ?? 0;
    if (number === 38 || number === 48) {
      const [colour, taken] = extendedColour(numbers.slice(index + 1, index + 5));
      next = number === 38 ? { ...next, ink: colour } : { ...next, paper: colour };
      index += taken;
    } else {
      next = { ...next, ...simpleChange(number) };
    }
  }
  return next;
}

function simpleChange(number: number): Partial<Look> {
  if (number === 0) return plainLook;
  if (number >= 30 && number <= 37) return { ink: number - 30 };
  if (number >= 90 && number <= 97) return { ink: number - 90 + 8 };
  if (number >= 40 && number <= 47) return { paper: number - 40 };
  if (number >= 100 && number <= 107) return { paper: number - 100 + 8 };
  switch (number) {
    case 1:
      return { isBold: true };
    case 2:
      return { isDim: true };
    case 3:
      return { isItalic: true };
    case 4:
      return { isUnderlined: true };
    case 7:
      return { isInverse: true };
    case 22:
      return { isBold: false, isDim: false };
    case 23:
      return { isItalic: false };
    case 24:
      return { isUnderlined: false };
    case 27:
      return { isInverse: false };
    case 39:
      return { ink: null };
    case 49:
      return { paper: null };
    default:
      return {};
  }
}

/** `5;n` of 256 colours, or `2;r;g;b`: the nearest of the sixteen that both schemes show well. */
function extendedColour(rest: readonly number[]): [colour: number | null, taken: number] {
  const [kind, a = 0, b = 0, c = 0] = rest;
  if (kind === 2) return [nearest(a, b, c), 4];
  if (kind !== 5) return [null, rest.length];
  if (a < 16) return [a, 2];
  if (a >= 232) return [nearest((a - 232) * 10 + 8, (a - 232) * 10 + 8, (a - 232) * 10 + 8), 2];
  const level = (step: number): number => (step === 0 ? 0 : step * 40 + 55);
  const cube = a - 16;
  return [
    nearest(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)),
    2,
  ];
}

/** By hue first: a dark blue stays blue. Grey tones go to the four greys. */
function nearest(red: number, green: number, blue: number): number {
  const most = Math.max(red, green, blue);
  const least = Math.min(red, green, blue);
  if (most - least < 40) return most < 64 ? 0 : most < 140 ? 8 : most < 210 ? 7 : 15;
  const middle = (most + least) / 2;
  const hue = (red > middle ? 1 : 0) + (green > middle ? 2 : 0) + (blue > middle ? 4 : 0);
  return most > 200 ? hue + 8 : hue;
}
