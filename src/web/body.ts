import type { IncomingMessage } from "node:http";
import { Transform, type TransformCallback } from "node:stream";
import { MayflyError } from "../domain/errors.ts";

/** Bodies held in memory at once, over all requests. */
export class BodyBudget {
  readonly #max: number;
  #held = 0;

  constructor(max: number) {
    this.#max = max;
  }

  take(bytes: number): void {
    if (this.#held + bytes > this.#max) {
      throw new MayflyError("unavailable", "too many requests are being received at once", {
        hint: "Send it again in a few seconds.",
      });
    }
    this.#held += bytes;
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }
}

export interface BodyLimit {
  readonly maxBytes: number;
  /** The whole body has to be here by then. */
  readonly deadlineMs: number;
  readonly budget: BodyBudget;
}

/**
 * The raw bytes of a request. Throws `too_large`, `unavailable` (too much at once), or `invalid`
 * when they did not arrive in time or the sender went away.
 */
export function readBody(incoming: IncomingMessage, limit: BodyLimit): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const settle = (error: MayflyError | null): void => {
      clearTimeout(timer);
      incoming.off("data", onData).off("end", onEnd).off("error", onLost).off("close", onLost);
      limit.budget.give(length);
      if (error === null) resolve(Buffer.concat(chunks, length));
      else reject(error);
    };
    const onEnd = (): void => settle(null);
    const onLost = (): void => settle(new MayflyError("invalid", "the request's body broke off"));
    const onData = (chunk: Buffer): void => {
      try {
        limit.budget.take(chunk.length);
      } catch (error) {
        return settle(error as MayflyError);
      }
      length += chunk.length;
      chunks.push(chunk);
      if (length > limit.maxBytes) settle(tooLarge(limit.maxBytes));
    };
    const late = `the request's body was not here within ${limit.deadlineMs / 1000} s`;
    const timer = setTimeout(() => settle(new MayflyError("invalid", late)), limit.deadlineMs);
    if (Number(incoming.headers["content-length"] ?? 0) > limit.maxBytes) {
      return settle(tooLarge(limit.maxBytes));
    }
    incoming.on("data", onData).on("end", onEnd).on("error", onLost).on("close", onLost);
  });
}

/** Passes bytes on until there are too many, then fails with `too_large`. */
export class Capped extends Transform {
  readonly #max: number;
  #seen = 0;

  constructor(max: number) {
    super();
    this.#max = max;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#seen += chunk.length;
    if (this.#seen > this.#max) done(tooLarge(this.#max));
    else done(null, chunk);
  }
}

function tooLarge(max: number): MayflyError {
  return new MayflyError("too_large", `the body is larger than ${max} bytes`, { where: "body" });
}
