import type { Duplex } from "node:stream";
import { z } from "zod";
import { ProviderError } from "../../domain/errors.ts";
import { clip, quote } from "../../domain/words.ts";

const line = z.union([
  z.object({ QMP: z.unknown() }),
  z.object({ event: z.string(), data: z.record(z.string(), z.unknown()).default({}) }),
  z.object({ return: z.unknown(), id: z.number().optional() }),
  z.object({ error: z.object({ class: z.string(), desc: z.string() }), id: z.number().optional() }),
]);

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** QEMU's answers to `query-*` are some KB at most. */
const lineBytesMax = 1024 * 1024;
/** Events nobody asked for yet; a guest cannot cause them without end. */
const eventsMax = 1_000;

/** One conversation with a QEMU. Every failure is an `unreachable` ProviderError. */
export class Qmp {
  readonly #socket: Duplex;
  readonly #waiting = new Map<number, Waiting>();
  readonly #events: QmpEvent[] = [];
  readonly #listeners = new Set<() => void>();
  #ended: Error | null = null;
  #text = "";
  #last = 0;

  constructor(socket: Duplex) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => this.#hear(chunk));
    socket.on("error", (error) => this.#end(error.message));
    socket.on("close", () => this.#end("QEMU ended"));
    socket.on("end", () => this.#end("QEMU ended"));
  }

  /** Sends a command and gives what it returns. */
  async command(name: string, args: object = {}): Promise<unknown> {
    if (this.#ended !== null) throw this.#ended;
    const id = ++this.#last;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.#socket.write(`${JSON.stringify({ execute: name, arguments: args, id })}\n`);
    return answer;
  }

  /** The first event that `fits`, also of those that came before. */
  async event(fits: (event: QmpEvent) => boolean, signal: AbortSignal): Promise<QmpEvent> {
    for (;;) {
      const found = this.#events.find(fits);
      if (found !== undefined) return found;
      if (this.#ended !== null) throw this.#ended;
      await this.#change(signal);
    }
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const over = (): void => {
        this.#listeners.delete(over);
        signal.removeEventListener("abort", over);
        if (signal.aborted) reject(new ProviderError("unreachable", "QEMU did not say it in time"));
        else resolve();
      };
      this.#listeners.add(over);
      signal.addEventListener("abort", over);
      if (signal.aborted) over();
    });
  }

  #hear(chunk: string): void {
    const lines = (this.#text + chunk).split("\n");
    this.#text = lines.pop() ?? "";
    if (this.#text.length > lineBytesMax) this.#end("QEMU's answer is too long");
    for (const each of lines) if (this.#ended === null && each.trim() !== "") this.#heed(each);
  }

  #heed(text: string): void {
    let parsed: z.infer<typeof line>;
    try {
      parsed = line.parse(JSON.parse(text));
    } catch {
      return this.#end(`not an answer of QEMU's: ${quote(text)}`);
    }
    if ("event" in parsed) {
      this.#events.push({ name: parsed.event, data: parsed.data });
      if (this.#events.length > eventsMax) this.#events.shift();
      for (const tell of this.#listeners) tell();
    }
    if (!("return" in parsed || "error" in parsed)) return;
    const waiting = this.#waiting.get(parsed.id ?? -1);
    if (waiting === undefined) return;
    this.#waiting.delete(parsed.id ?? -1);
    if ("return" in parsed) waiting.resolve(parsed.return);
    else waiting.reject(new ProviderError("unreachable", clip(parsed.error.desc, 300)));
  }

  #end(why: string): void {
    if (this.#ended !== null) return;
    this.#ended = new ProviderError("unreachable", why);
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
    for (const tell of this.#listeners) tell();
    this.#socket.destroy();
  }
}
