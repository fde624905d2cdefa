import { StringDecoder } from "node:string_decoder";
import type { LogFrame } from "../store/logs.ts";

/** A line of a job's output; `isWhole` is false for one whose end has not come yet. */
export interface LogLine {
  readonly seq: number;
  /** When its first byte came, ms. */
  readonly at: number;
  readonly stream: LogFrame["stream"];
  readonly text: string;
  readonly isWhole: boolean;
}

/** A line longer than this is cut into several. */
const lineMax = 8_000;

interface Pending {
  readonly decoder: StringDecoder;
  text: string;
  /** Whether a byte of the line has come; its first may be but a part of a character. */
  hasBegun: boolean;
  seq: number;
  at: number;
}

/**
 * Cuts frames into lines, each stream for itself, for a program may write both at once in pieces
 * that end anywhere, even within a character. A carriage return starts the line over, as on a
 * terminal: of a progress bar the last state is kept.
 */
export class LineReader {
  readonly #pending = new Map<LogFrame["stream"], Pending>();

  /** The lines that this frame completes. */
  push(frame: LogFrame): LogLine[] {
    const { stream, bytes } = frame;
    const pending = this.#of(frame);
    if (!pending.hasBegun && bytes.length > 0) begin(pending, frame, true);
    const parts = pending.decoder.write(Buffer.from(bytes)).split("\n");
    const lines: LogLine[] = [];
    for (const [index, part] of parts.entries()) {
      if (index > 0) {
        lines.push(lineOf(stream, pending, true));
        begin(pending, frame, part !== "");
      }
      pending.text = overwritten(pending.text + part);
      while (pending.text.length > lineMax) {
        const rest = pending.text.slice(lineMax);
        pending.text = pending.text.slice(0, lineMax);
        lines.push(lineOf(stream, pending, true));
        pending.text = rest;
      }
    }
    return lines;
  }

  /** What has begun and not ended. */
  unfinished(): LogLine[] {
    return [...this.#pending].flatMap(([stream, pending]) =>
      pending.text === "" ? [] : [lineOf(stream, pending, false)],
    );
  }

  #of({ stream, seq, at }: LogFrame): Pending {
    let pending = this.#pending.get(stream);
    if (pending === undefined) {
      pending = { decoder: new StringDecoder("utf8"), text: "", hasBegun: false, seq, at };
      this.#pending.set(stream, pending);
    }
    return pending;
  }
}

function begin(pending: Pending, { seq, at }: LogFrame, hasBegun: boolean): void {
  Object.assign(pending, { text: "", hasBegun, seq, at });
}

function lineOf(stream: LogFrame["stream"], { seq, at, text }: Pending, isWhole: boolean): LogLine {
  return { seq, at, stream, text: text.replace(/\r+$/, ""), isWhole };
}

/** A last carriage return may belong to a line's end that has not come yet. */
function overwritten(text: string): string {
  const last = text.lastIndexOf("\r", text.length - 2);
  if (last === -1) return text;
  const kept = text.slice(last + 1);
  return /^\r*$/.test(kept) ? text.slice(text.lastIndexOf("\r", last - 1) + 1) : kept;
}
