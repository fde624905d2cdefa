/*
 * The guest's channel: frames of type u8, stream u32, length u32 (big-endian) and a payload. The
 * keeper speaks the host's side of it for as long as a machine lives; this is for what comes before
 * there is a machine (a template, a trial boot), and for tests.
 */

export const frameTypes = {
  ready: 1,
  open: 2,
  data: 3,
  close: 4,
  credit: 5,
  exit: 6,
  beat: 7,
  log: 8,
  program: 10,
  end: 11,
} as const;

export const payloadBytesMax = 65_536;
const headBytes = 9;

export interface Frame {
  readonly type: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export function encodeFrame(type: number, stream: number, payload: Uint8Array | string): Buffer {
  const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
  if (bytes.length > payloadBytesMax) throw new RangeError(`a frame of ${bytes.length} bytes`);
  const frame = Buffer.alloc(headBytes + bytes.length);
  frame.writeUInt8(type, 0);
  frame.writeUInt32BE(stream, 1);
  frame.writeUInt32BE(bytes.length, 5);
  frame.set(bytes, headBytes);
  return frame;
}

/** Takes bytes as they come and gives whole frames. Throws `RangeError` for one beyond the bound. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  take(chunk: Uint8Array): Frame[] {
    this.#rest = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    let at = 0;
    while (this.#rest.length - at >= headBytes) {
      const length = this.#rest.readUInt32BE(at + 5);
      if (length > payloadBytesMax) throw new RangeError(`a frame of ${length} bytes`);
      const end = at + headBytes + length;
      if (this.#rest.length < end) break;
      const payload = this.#rest.subarray(at + headBytes, end);
      frames.push({ type: this.#rest[at]!, stream: this.#rest.readUInt32BE(at + 1), payload });
      at = end;
    }
    this.#rest = this.#rest.subarray(at);
    return frames;
  }
}
