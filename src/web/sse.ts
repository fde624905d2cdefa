import { MayflyError } from "../domain/errors.ts";
import type { Store } from "../store/store.ts";

/** A quiet stream says so this often, so that proxies keep it and a dead reader is noticed. */
export const heartbeatMs = 15_000;

export interface StreamEvent {
  readonly event?: string;
  readonly id?: string;
  /** One line, or several: each becomes a line of data. */
  readonly data: string;
}

/** Raised by every commit that matters to one reader; lowered when that reader looks. */
export class Watch {
  #isRaised = false;
  #wake: () => void = () => {};

  raise(): void {
    this.#isRaised = true;
    this.#wake();
  }

  /** True as soon as something happened since the last call; false after `ms`, or at `signal`. */
  async next(ms: number, signal: AbortSignal): Promise<boolean> {
    if (!this.#isRaised && !signal.aborted) await this.#pause(ms, signal);
    const raised = this.#isRaised;
    this.#isRaised = false;
    return raised;
  }

  #pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#wake = () => {};
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done, { once: true });
      this.#wake = done;
    });
  }
}

/** A pause that ends early with `signal`; used to gather what comes in a burst. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    else signal.addEventListener("abort", done, { once: true });
  });
}

export type EventSource = (
  watch: Watch,
  signal: AbortSignal,
) => AsyncGenerator<StreamEvent | null, void, undefined>;

/**
 * The server-sent event streams that are open: so many and no more, each woken by the store's
 * commits and by no clock but its heartbeat.
 */
export class EventStreams {
  readonly #store: Store;
  readonly #max: number;
  readonly #closing: AbortSignal;
  readonly #failed: (error: unknown) => void;
  #open = 0;

  constructor(store: Store, max: number, closing: AbortSignal, failed: (error: unknown) => void) {
    this.#store = store;
    this.#max = max;
    this.#closing = closing;
    this.#failed = failed;
  }

  get open(): number {
    return this.#open;
  }

  /**
   * A response that streams what `source` yields (null: a heartbeat), at the pace its reader reads.
   * `hears` picks the topics that wake it. Throws `unavailable` when too many are open.
   */
  respond(method: string, hears: (topic: string) => boolean, source: EventSource): Response {
    // Nobody will read the body, so nothing would ever end the stream.
    if (method === "HEAD") return new Response(null, { headers });
    if (this.#open >= this.#max) {
      throw new MayflyError("unavailable", `${this.#max} live streams are open already`, {
        hint: "Close some, or ask again without following.",
      });
    }
    this.#open += 1;
    const watch = new Watch();
    const gone = new AbortController();
    const signal = AbortSignal.any([gone.signal, this.#closing]);
    const stopListening = this.#store.onWake((topic) => {
      if (hears(topic)) watch.raise();
    });
    const events = source(watch, signal);
    let isOpen = true;
    const end = (): void => {
      if (!isOpen) return;
      isOpen = false;
      this.#open -= 1;
      stopListening();
      gone.abort();
    };
    const encoder = new TextEncoder();
    let isFirst = true;
    const body = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          if (isFirst) {
            isFirst = false;
            controller.enqueue(encoder.encode("retry: 2000\n\n"));
            return;
          }
          try {
            const next = signal.aborted ? ({ done: true } as const) : await events.next();
            if (isOpen && next.done !== true) {
              return controller.enqueue(encoder.encode(encode(next.value)));
            }
          } catch (error) {
            this.#failed(error);
          }
          // Its reader may have gone while we waited for news.
          if (!isOpen) return;
          end();
          controller.close();
        },
        cancel: end,
      },
      { highWaterMark: 0 },
    );
    return new Response(body, { headers });
  }
}

const headers = {
  "content-type": "text/event-stream",
  "cache-control": "no-store",
  // Or nginx gathers a page full before it passes anything on.
  "x-accel-buffering": "no",
};

function encode(event: StreamEvent | null): string {
  if (event === null) return ": still here\n\n";
  const id = event.id === undefined ? "" : `id: ${event.id}\n`;
  const name = event.event === undefined ? "" : `event: ${event.event}\n`;
  const data = event.data.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`);
  return `${id}${name}${data.join("")}\n`;
}
