import type { Tint } from "./terminal.ts";
import { clean } from "./terminal.ts";

export interface Column<T> {
  readonly title: string;
  readonly text: (row: T) => string;
  readonly tint?: (row: T) => Tint | null;
  readonly align?: "right";
  /** Cut when the table is wider than the terminal, the right-most first. */
  readonly flexible?: true;
  /** Left out when cutting is not enough, the right-most first. */
  readonly optional?: true;
}

/** No flexible column is cut below this. */
const widthMin = 8;

/**
 * Rows under aligned titles, each line fitted to `width` (null: as wide as it needs). `paint` tints
 * a cell after it is measured.
 */
export function table<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  width: number | null,
  paint: (tint: Tint, text: string) => string,
): string[] {
  const cells = rows.map((row) => columns.map((column) => clean(column.text(row))));
  const widths = columns.map(({ title }, index) =>
    Math.max(widthOf(title), ...cells.map((line) => widthOf(line[index] ?? ""))),
  );
  if (width !== null) {
    const least = columns.map(({ flexible }, index) => {
      const whole = widths[index] ?? 0;
      return flexible === true ? Math.min(whole, widthMin) : whole;
    });
    const left = columns.findLastIndex(({ optional }) => optional === true);
    if (left >= 0 && sumOf(least) > width) {
      return table(rows, columns.toSpliced(left, 1), width, paint);
    }
    narrow(widths, columns, width);
  }

  const line = (texts: readonly string[], tintOf: (column: Column<T>) => Tint | null): string => {
    const parts = columns.map((column, index) => {
      const room = widths[index] ?? 0;
      const text = cut(texts[index] ?? "", room);
      const tint = tintOf(column);
      const blank = " ".repeat(Math.max(0, room - widthOf(text)));
      const shown = tint === null ? text : paint(tint, text);
      return column.align === "right" ? blank + shown : shown + blank;
    });
    return parts.join("  ").trimEnd();
  };
  return [
    line(
      columns.map(({ title }) => title),
      () => "dim",
    ),
    ...rows.map((row, index) => line(cells[index] ?? [], (column) => column.tint?.(row) ?? null)),
  ];
}

function narrow<T>(widths: number[], columns: readonly Column<T>[], width: number): void {
  let excess = sumOf(widths) - width;
  for (let index = columns.length - 1; index >= 0 && excess > 0; index--) {
    if (columns[index]?.flexible !== true) continue;
    const given = Math.min(excess, Math.max(0, (widths[index] ?? 0) - widthMin));
    widths[index] = (widths[index] ?? 0) - given;
    excess -= given;
  }
}

/** Columns with two blanks between them. */
function sumOf(widths: readonly number[]): number {
  return widths.reduce((sum, each) => sum + each + 2, -2);
}

/** `text` in at most `room` columns, a cut shown by an ellipsis. */
function cut(text: string, room: number): string {
  if (widthOf(text) <= room) return text;
  let shown = "";
  for (const sign of text) {
    if (widthOf(shown) + widthOf(sign) > room - 1) break;
    shown += sign;
  }
  return `${shown}…`;
}

const wide =
  /\p{Script=Han}|\p{Script=Hangul}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Emoji_Presentation}|[\uff01-\uff60]/u;

/**
 * `text`, which begins in column `indent`, in lines that end before column `width` (null: in one
 * line), broken between words and each below the other. A word that is too long stays whole.
 */
export function folded(text: string, indent: number, width: number | null): string {
  if (width === null) return text;
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1) ?? ""} ${word}`;
    if (lines.length > 0 && indent + widthOf(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.join(`\n${" ".repeat(indent)}`);
}

/** Columns on a terminal: two for what East Asian scripts and emoji take, none for marks. */
export function widthOf(text: string): number {
  // Nearly all text is this, and counting it by signs would be most of a long table's time.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const sign of text) width += /\p{Mn}/u.test(sign) ? 0 : wide.test(sign) ? 2 : 1;
  return width;
}
