import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
  readonly target: number;
}

/** A TCP proxy on a free loopback port that can be told to misbehave. */
export class Proxy {
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  /** The port a new connection is for; null: it is reset. */
  readonly #target: () => number | null;
  #isStalled = false;

  private constructor(target: () => number | null) {
    this.#target = target;
    this.#server = createServer((near) => this.#join(near));
  }

  static async open(target: () => number | null): Promise<Proxy> {
    const proxy = new Proxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Our ports on the far side, by which a server knows these connections. */
  get farPorts(): readonly number[] {
    return [...this.#pairs].flatMap(({ far }) => far.localPort ?? []);
  }

  /** Holds back all bytes, in both directions, without closing anything. */
  stall(): void {
    this.#isStalled = true;
    for (const { near, far } of this.#pairs) {
      near.pause();
      far.pause();
    }
  }

  /** Lets everything through again, late. */
  resume(): void {
    this.#isStalled = false;
    for (const { near, far } of this.#pairs) {
      near.resume();
      far.resume();
    }
  }

  /** Resets the connections there are, or only those to one port. */
  cut(target?: number): void {
    for (const pair of this.#pairs) {
      if (target === undefined || pair.target === target) this.#end(pair);
    }
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await closed;
  }

  #join(near: Socket): void {
    const target = this.#target();
    near.on("error", () => {});
    if (target === null) return void near.destroy();
    const far = connect(target, "127.0.0.1");
    const pair = { near, far, target };
    this.#pairs.add(pair);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      // Not `pipe`: that would resume what is stalled.
      from.on("data", (bytes: Buffer) => void to.write(bytes));
      from.on("end", () => to.end());
      from.on("error", () => this.#end(pair));
      from.on("close", () => this.#end(pair));
    }
    if (!this.#isStalled) return;
    near.pause();
    far.pause();
  }

  #end(pair: Pair): void {
    this.#pairs.delete(pair);
    reset(pair.near);
    reset(pair.far);
  }
}

/** Node never ends when a socket is reset while it connects or is being shut down. */
function reset(socket: Socket): void {
  if (socket.connecting || socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
