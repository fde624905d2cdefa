import { MayflyError } from "../../domain/errors.ts";

/** A record may have so many characters: a quote that is never closed is found before memory ends. */
const recordMax = 1_000_000;
const fieldsMax = 1000;

/**
 * Reads comma-separated values as RFC 4180 has them, handed in piece by piece: quoted fields with
 * commas, line breaks and doubled quotes, CRLF or LF, a byte order mark. Empty lines are passed
 * over. Throws `invalid` with the line.
 */
export class CsvReader {
  readonly #file: string;
  readonly #take: (fields: readonly string[], line: number) => void;
  #rest = "";
  #line = 1;
  #isBegun = false;

  /** `take` is called with each record and the line that it begins on. */
  constructor(file: string, take: (fields: readonly string[], line: number) => void) {
    this.#file = file;
    this.#take = take;
  }

  push(text: string): void {
    if (text === "") return;
    const fresh = this.#isBegun ? text : text.replace(/^\ufeff/, "");
    this.#isBegun = true;
    this.#rest = this.#read(this.#rest + fresh);
    if (this.#rest.length > recordMax) throw this.#fault(`has more than ${recordMax} characters`);
  }

  /** What is left is the last record, which need not end in a line break. */
  end(): void {
    const rest = this.#read(`${this.#rest}\n`);
    if (rest !== "") throw this.#fault("has a quote that is never closed");
    this.#rest = "";
  }

  /** Takes every record that is whole, and returns what follows it. */
  #read(text: string): string {
    let start = 0;
    let quote = text.indexOf('"');
    for (;;) {
      const end = text.indexOf("\n", start);
      if (end === -1) return text.slice(start);
      if (quote !== -1 && quote < start) quote = text.indexOf('"', start);
      if (quote === -1 || quote > end) {
        this.#plain(text, start, end);
        start = end + 1;
        continue;
      }
      const next = this.#quoted(text, start);
      if (next === -1) return text.slice(start);
      start = next;
    }
  }

  #plain(text: string, start: number, end: number): void {
    const stop = end > start && text.charCodeAt(end - 1) === 13 ? end - 1 : end;
    if (stop > start) this.#give(text.slice(start, stop).split(","));
    this.#line++;
  }

  /** A record in which something is quoted; returns where the next begins, -1: it is not whole. */
  #quoted(text: string, start: number): number {
    const fields: string[] = [];
    let at = start;
    let breaks = 0;
    for (;;) {
      if (text[at] !== '"') {
        const stop = firstOf(text, at, ",\n");
        if (stop === -1) return -1;
        const field = text.slice(at, stop).replace(/\r$/, "");
        if (field.includes('"')) {
          throw this.#fault("has a quote within a field that is not quoted", quoteHint);
        }
        fields.push(field);
        at = stop;
      } else {
        const close = closingQuote(text, at + 1);
        if (close === -1) return -1;
        const field = text.slice(at + 1, close);
        breaks += field.split("\n").length - 1;
        fields.push(field.replaceAll('""', '"'));
        at = close + 1;
        if (text[at] === "\r" && text[at + 1] === "\n") at++;
        // What follows the quote is not there yet.
        if (at >= text.length || (text[at] === "\r" && at + 1 === text.length)) return -1;
        if (text[at] !== "," && text[at] !== "\n") {
          throw this.#fault("has text after a closing quote", quoteHint);
        }
      }
      if (text[at] === "\n") break;
      at++;
    }
    this.#give(fields);
    this.#line += breaks + 1;
    return at + 1;
  }

  #give(fields: readonly string[]): void {
    if (fields.length > fieldsMax) throw this.#fault(`has more than ${fieldsMax} fields`);
    this.#take(fields, this.#line);
  }

  #fault(what: string, hint = "Check the quotes of this line and those above."): MayflyError {
    return new MayflyError("invalid", `the record ${what}`, {
      where: `${this.#file}:${this.#line}`,
      hint,
    });
  }
}

const quoteHint = 'Put the whole field in quotes, and double those in it: "say ""hello""".';

/** Where a quoted field ends; doubled quotes belong to it. A last one may be half of a double. */
function closingQuote(text: string, from: number): number {
  for (let at = from; ; at += 2) {
    at = text.indexOf('"', at);
    if (at === -1 || at + 1 === text.length) return -1;
    if (text[at + 1] !== '"') return at;
  }
}

function firstOf(text: string, from: number, signs: string): number {
  for (let at = from; at < text.length; at++) if (signs.includes(text[at]!)) return at;
  return -1;
}

/** A field as it is written: quoted where it must be. */
export function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
