import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/* Real HTTP for a forge that is played: for tests only. */

export interface FakeRequest {
  readonly method: string;
  /** Without what is asked of it. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: unknown;
}

export interface FakeAnswer {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** For a port that somebody else has: a minute's, ten a second. */
const portTriesMax = 600;

export type FakeOutage = "refused" | "silent" | "garbage" | "error";

export class FakeServer {
  readonly #answer: (request: FakeRequest) => FakeAnswer | Promise<FakeAnswer>;
  #server: Server | null = null;
  #port = 0;
  #outage: FakeOutage | null = null;
  /** What has been asked, a line each: for tests that count. */
  readonly asked: string[] = [];

  constructor(answer: (request: FakeRequest) => FakeAnswer | Promise<FakeAnswer>) {
    this.#answer = answer;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async open(): Promise<void> {
    const server = createServer((request, response) => void this.#take(request, response));
    // On a slow host it would close a connection just as the next call is sent on it.
    server.keepAliveTimeout = 0;
    this.#server = server;
    await this.#listen(server);
    this.#port = (server.address() as AddressInfo).port;
  }

  /** While it was closed, a connection of another process may have come by its port, for a while. */
  async #listen(server: Server): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        server.listen(this.#port, "127.0.0.1");
        await once(server, "listening");
        return;
      } catch (error) {
        const isTaken = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
        if (!isTaken || tries >= portTriesMax) throw error;
        await sleep(100);
      }
    }
  }

  /** Keeps its port, so that it can come back where it was. */
  async outage(kind: FakeOutage | null): Promise<void> {
    this.#outage = kind;
    if (kind === "refused") await this.close();
    else if (this.#server === null) await this.open();
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url ?? "/", this.url);
    const method = request.method ?? "GET";
    this.asked.push(`${method} ${url.pathname}${url.search}`);
    if (this.#outage === "silent") return;
    if (this.#outage === "garbage") return send(response, 200, "<html>a proxy's page</html>");
    if (this.#outage === "error") return send(response, 500, '{"message":"the database is gone"}');
    const text = Buffer.concat(chunks).toString("utf8");
    const answer = await this.#answer({
      method,
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: text === "" ? null : (JSON.parse(text) as unknown),
    });
    const body = answer.body === undefined ? "" : JSON.stringify(answer.body);
    send(response, answer.status, body, answer.headers);
  }
}

function send(
  response: ServerResponse,
  status: number,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(body);
}
