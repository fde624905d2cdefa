import { MayflyError } from "../domain/errors.ts";

/*
 * The words between guest and manager, made to be written and read without a library: lines of
 * `name=value`, and frames of output with a line of text before each. docs/guest.md describes both.
 */

/** A piece of output: `seq at stream length`, a newline, and that many bytes. */
export interface Frame {
  readonly seq: number;
  readonly at: number;
  readonly stream: "stdout" | "stderr" | "mayfly";
  readonly bytes: Uint8Array;
}

export const frameBytesMax = 64 * 1024;
export const batchBytesMax = 1024 * 1024;
const framesMax = 20_000;

/** `name=value` lines, a list as several lines; everything but letters, digits and -._~ escaped. */
export function encodePairs(pairs: Readonly<Record<string, string | readonly string[]>>): string {
  let text = "";
  for (const [name, value] of Object.entries(pairs)) {
    for (const one of typeof value === "string" ? [value] : value) {
      text += `${name}=${encodeURIComponent(one)}\n`;
    }
  }
  return text;
}

const frameHead = /^(\d{1,15}) (\d{1,15}) (stdout|stderr|mayfly) (\d{1,6})$/;
const headBytesMax = 64;

/** The frames of one batch. Throws `invalid` at the first byte that is out of place. */
export function parseFrames(body: Uint8Array): Frame[] {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const frames: Frame[] = [];
  let at = 0;
  while (at < buffer.length) {
    const end = buffer.subarray(at, at + headBytesMax).indexOf(0x0a);
    const head = end < 0 ? "" : buffer.toString("latin1", at, at + end);
    const [, seq, time, stream, length] = frameHead.exec(head) ?? [];
    const from = at + end + 1;
    const until = from + Number(length);
    if (stream === undefined || Number(length) > frameBytesMax || until > buffer.length) {
      throw outOfPlace(at, frames.length);
    }
    if (frames.length >= framesMax) {
      throw new MayflyError("too_large", `more than ${framesMax} frames in one batch`);
    }
    frames.push({
      seq: Number(seq),
      at: Number(time),
      stream: stream as Frame["stream"],
      bytes: buffer.subarray(from, until),
    });
    at = until;
  }
  return frames;
}

/** The inverse of `parseFrames`. */
export function encodeFrames(frames: readonly Frame[]): Uint8Array {
  return Buffer.concat(
    frames.flatMap(({ seq, at, stream, bytes }) => [
      Buffer.from(`${seq} ${at} ${stream} ${bytes.length}\n`),
      bytes,
    ]),
  );
}

function outOfPlace(at: number, frame: number): MayflyError {
  return new MayflyError("invalid", `frame ${frame + 1} of the batch is malformed`, {
    where: `byte ${at}`,
    hint: "A frame is `seq at stream length`, a newline, and that many bytes.",
  });
}
