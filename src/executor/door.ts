import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { isSame } from "./secret.ts";

/*
 * The host's end of a person's way into a machine. The machine knocks, by its guest's own channel:
 * nothing listens there and no port is needed. docs/guest.md describes the frames.
 */

const frameBytesMax = 64 * 1024;
const headBytes = 5;

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** Where a machine's shell knocks; it opens only while somebody wants in. */
export class Door {
  readonly #word: string;
  #wanted: ((link: ShellLink) => void) | null = null;

  constructor(word: string) {
    this.#word = word;
  }

  /** For a server's `upgrade`. */
  readonly knock = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on("error", () => socket.destroy());
    const [, word = ""] = /^Bearer (\S{1,300})$/.exec(request.headers.authorization ?? "") ?? [];
    if (request.url !== "/v1/guest/shell" || !isSame(word, this.#word)) {
      return refuse(socket, "401 Unauthorized");
    }
    if (this.#wanted === null) return refuse(socket, "503 Service Unavailable");
    const words = ["Connection: Upgrade", "Upgrade: mayfly-shell", "", ""];
    socket.write(["HTTP/1.1 101 Switching Protocols", ...words].join("\r\n"));
    this.#wanted(new ShellLink(socket, head));
    this.#wanted = null;
  };

  /** The machine's next knock; null: `signal` was aborted first. */
  open(signal: AbortSignal): Promise<ShellLink | null> {
    return new Promise((resolve) => {
      const leave = (): void => {
        this.#wanted = null;
        resolve(null);
      };
      this.#wanted = (link) => {
        signal.removeEventListener("abort", leave);
        resolve(link);
      };
      if (signal.aborted) leave();
      else signal.addEventListener("abort", leave, { once: true });
    });
  }
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** One shell: keys in, output out, and its status at the end. */
export class ShellLink {
  readonly #socket: Duplex;
  #held: Buffer;

  constructor(socket: Duplex, head: Buffer) {
    this.#socket = socket;
    this.#held = head;
  }

  /** Starts the shell on a terminal of this size and kind. */
  begin(size: TerminalSize, kind: string): void {
    this.#send("W", `${size.columns} ${size.rows} ${kind}`);
  }

  resize({ columns, rows }: TerminalSize): void {
    this.#send("W", `${columns} ${rows}`);
  }

  type(keys: Buffer): void {
    for (let at = 0; at < keys.length; at += frameBytesMax) {
      this.#send("D", keys.subarray(at, at + frameBytesMax));
    }
  }

  /**
   * Shows all output, waiting for each piece, until the shell is over: its exit status; null: the
   * connection was lost, or the machine's end speaks something else.
   */
  async run(show: (bytes: Buffer) => Promise<void>): Promise<number | null> {
    try {
      for await (const chunk of this.#socket as AsyncIterable<Buffer>) {
        this.#held = Buffer.concat([this.#held, chunk]);
        for (let frame = this.#take(); frame !== null; frame = this.#take()) {
          if (frame.type === "D") await show(frame.payload);
          else if (frame.type === "E") return statusOf(frame.payload);
          else return null;
        }
      }
    } catch {
      // Cut off: there is no more to be had.
    } finally {
      this.close();
    }
    return null;
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(): { type: string; payload: Buffer } | null {
    if (this.#held.length < headBytes) return null;
    const type = this.#held.toString("latin1", 0, 1);
    const end = headBytes + this.#held.readUInt32BE(1);
    if (end > headBytes + frameBytesMax) return { type: "?", payload: Buffer.alloc(0) };
    if (this.#held.length < end) return null;
    const payload = this.#held.subarray(headBytes, end);
    this.#held = this.#held.subarray(end);
    return { type, payload };
  }

  #send(type: "W" | "D", payload: string | Buffer): void {
    if (this.#socket.destroyed) return;
    const bytes = Buffer.from(payload);
    const head = Buffer.alloc(headBytes);
    head.write(type, "latin1");
    head.writeUInt32BE(bytes.length, 1);
    this.#socket.write(Buffer.concat([head, bytes]));
  }
}

function statusOf(payload: Buffer): number | null {
  const status = Number(payload.toString("latin1"));
  return Number.isInteger(status) && status >= 0 && status <= 255 ? status : null;
}
