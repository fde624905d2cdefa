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
    const pending = this.#of(frame);
    const parts = pending.decoder.write(Buffer.from(frame.bytes)).split("\n");
    const lines: LogLine[] = [];
    for (const [index, part] of parts.entries()) {
      if (index > 0) {
        lines.push(...this.#lines(frame.stream, pending, true));
        this.#restart(pending, frame);
      }
      if (pending.text === "") this.#restart(pending, frame);
      pending.text = overwritten(pending.text + part);
      while (pending.text.length > lineMax) {
        const cut = pending.text.slice(0, lineMax);
        lines.push({
          seq: pending.seq,
          at: pending.at,
          stream: frame.stream,
          text: cut,
          isWhole: true,
        });
        pending.text = pending.text.slice(lineMax);
      }
    }
    return lines;
  }

  /** What has begun and not ended. */
  unfinished(): LogLine[] {
    return [...this.#pending].flatMap(([stream, pending]) =>
      pending.text === "" ? [] : this.#lines(stream, pending, false),
    );
  }

  #of(frame: LogFrame): Pending {
    let pending = this.#pending.get(frame.stream);
    if (pending === undefined) {
      pending = { decoder: new StringDecoder("utf8"), text: "", seq: frame.seq, at: frame.at };
      this.#pending.set(frame.stream, pending);
    }
    return pending;
  }

  #restart(pending: Pending, frame: LogFrame): void {
    pending.text = "";
    pending.seq = frame.seq;
    pending.at = frame.at;
  }

  #lines(stream: LogFrame["stream"], { seq, at, text }: Pending, isWhole: boolean): LogLine[] {
    return [{ seq, at, stream, text: text.replace(/\r+$/, ""), isWhole }];
  }
}

/** A last carriage return may belong to a line's end that has not come yet. */
function overwritten(text: string): string {
  const last = text.lastIndexOf("\r", text.length - 2);
  if (last === -1) return text;
  const kept = text.slice(last + 1);
  return /^\r*$/.test(kept) ? text.slice(text.lastIndexOf("\r", last - 1) + 1) : kept;
}
