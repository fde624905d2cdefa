import { once } from "node:events";
import type { WriteStream } from "node:tty";
import { styleText } from "node:util";

/*
 * What a person sees: colour and fitted lines on a terminal, plain and whole lines in a pipe.
 */

export type Output = NodeJS.WriteStream & { readonly fd: number };
export type Tint = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

/** Writes, and waits while the reader is behind. */
export async function write(output: Output, data: string | Uint8Array): Promise<void> {
  if (!output.write(data)) await once(output, "drain");
}

export function print(line: string): Promise<void> {
  return write(process.stdout, `${line}\n`);
}

/** A line for the person beside what was asked for: on standard error. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Tints for this output: none in a pipe, on a dumb terminal, or where NO_COLOR is set. */
export function painter(output: Output): (tint: Tint, text: string) => string {
  const { NO_COLOR, TERM } = process.env;
  const isPlain = !output.isTTY || (NO_COLOR ?? "") !== "" || TERM === "dumb";
  if (isPlain) return (_, text) => text;
  return (tint, text) => styleText(tint, text, { validateStream: false });
}

/** The columns to fit into; null in a pipe, where nothing is cut. */
export function columnsOf(output: Output): number | null {
  return output.isTTY ? Math.max(40, (output as WriteStream).columns || 80) : null;
}

const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A text from outside on one line, without what a terminal would obey. */
export function clean(text: string): string {
  return text.replace(/\s+/gu, " ").replace(unprintable, "\ufffd");
}

/** One line on a terminal that is written over until it is cleared; in a pipe, nothing. */
export class StatusLine {
  readonly #output: Output;
  #shown = "";

  constructor(output: Output) {
    this.#output = output;
  }

  get isLive(): boolean {
    return this.#output.isTTY;
  }

  show(text: string): void {
    if (!this.isLive || text === this.#shown) return;
    const room = (columnsOf(this.#output) ?? 80) - 1;
    const fitted = text.length > room ? `${text.slice(0, room - 1)}…` : text;
    this.#output.write(`\r\u001b[K${painter(this.#output)("dim", fitted)}`);
    this.#shown = text;
  }

  clear(): void {
    if (this.#shown === "") return;
    this.#output.write("\r\u001b[K");
    this.#shown = "";
  }
}
