import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Outage } from "../../conformance.ts";
import { answer, type FakeAnswer, type FakeCall } from "./routes.ts";
import { FakeState, type FakeSettings } from "./state.ts";

/** One question that the server was asked, and what it said. */
export interface FakeRecord {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly status: number;
  /** The path in GitHub's OpenAPI document. */
  readonly template: string | undefined;
  readonly body: unknown;
}

/** What else may answer on the same server: the service of the scale sets. */
export type FakeService = (call: FakeCall, request: IncomingMessage) => Promise<FakeAnswer> | null;

/**
 * A GitHub Enterprise Server on this machine: real HTTP, a state that lasts, and the oddities that
 * GitHub was seen to have. Its API is below `/api/v3`, as there.
 */
export class FakeGithub {
  readonly state: FakeState;
  readonly records: FakeRecord[] = [];
  outage: Outage | null = null;
  /** How long each answer takes beside what it costs. */
  delayMs = 0;
  service: FakeService | null = null;
  readonly #server: Server;

  private constructor(state: FakeState, server: Server) {
    this.state = state;
    this.#server = server;
  }

  static async start(settings: FakeSettings): Promise<FakeGithub> {
    const server = createServer();
    // On a slow host it would close a connection just as the next call is sent on it.
    server.keepAliveTimeout = 0;
    const fake = new FakeGithub(new FakeState(settings), server);
    server.on("request", (request, response) => {
      fake.#serve(request, response).catch(() => response.destroy());
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    fake.state.api = `${fake.origin}/api/v3`;
    fake.state.limit.resetAt = settings.now() + 3600_000;
    return fake;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The organisation's address, as a configuration names it. */
  get url(): string {
    return `${this.origin}/${this.state.settings.org}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.outage === "refused") return void request.socket.destroy();
    if (this.outage === "silent") return;
    if (this.outage === "garbage") {
      return void response.writeHead(200, { "content-type": "text/html" }).end("<h1>Unicorn!</h1>");
    }
    if (this.outage === "error") {
      const type = { "content-type": "application/json" };
      return void response.writeHead(502, type).end('{"message":"Server Error"}');
    }
    const url = new URL(request.url ?? "/", this.origin);
    const path = url.pathname.replace(/^\/api\/v3/, "");
    const body = JSON.parse((await text(request)) || "{}") as Record<string, unknown>;
    const call: FakeCall = { method: request.method ?? "", path, query: url.searchParams, body };
    const served = this.service?.(call, request) ?? null;
    if (served !== null) return send(response, await served, {});
    const said =
      this.#limited() ?? this.#refused(path) ?? answer(this.state, call, this.#by(request));
    const etag = `"${createHash("sha256")
      .update(`${this.state.salt} ${JSON.stringify(said.body ?? null)}`)
      .digest("hex")}"`;
    const isSame = said.status === 200 && request.headers["if-none-match"] === etag;
    if (!isSame) this.state.limit.remaining = Math.max(0, this.state.limit.remaining - 1);
    this.records.push({
      method: call.method,
      path,
      query: url.search,
      status: isSame ? 304 : said.status,
      template: said.path,
      body: said.body,
    });
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    send(response, isSame ? { status: 304 } : said, this.#headers(etag));
  }

  #headers(etag: string): Record<string, string> {
    const { limit, tokenExpires } = this.state;
    const headers: Record<string, string> = {
      etag,
      "x-ratelimit-limit": String(limit.limit),
      "x-ratelimit-remaining": String(limit.remaining),
      "x-ratelimit-reset": String(Math.floor(limit.resetAt / 1000)),
      "x-ratelimit-resource": "core",
    };
    if (tokenExpires !== null) {
      const at = new Date(tokenExpires)
        .toISOString()
        .replace("T", " ")
        .replace(/\.\d+Z/, " UTC");
      headers["github-authentication-token-expiration"] = at;
    }
    return headers;
  }

  #limited(): (FakeAnswer & { headers?: Record<string, string> }) | null {
    const { limit, faults, settings } = this.state;
    if (settings.now() >= limit.resetAt) {
      limit.remaining = limit.limit;
      limit.resetAt = settings.now() + 3600_000;
    }
    if (limit.remaining === 0) {
      return { status: 403, body: { message: "API rate limit exceeded for installation ID 7." } };
    }
    if (faults.secondary.left === 0) return null;
    faults.secondary.left -= 1;
    const { status, retryAfter } = faults.secondary;
    const message = "You have exceeded a secondary rate limit. Please wait a few minutes.";
    const headers = retryAfter === null ? {} : { "retry-after": String(retryAfter) };
    return { status, body: { message }, headers };
  }

  #refused(path: string): FakeAnswer | null {
    const refusal = this.state.faults.refusals.find(({ part }) => path.includes(part));
    return refusal === undefined
      ? null
      : { status: refusal.status, body: { message: refusal.message } };
  }

  #by(request: IncomingMessage): "app" | "installation" | "nobody" {
    const [, token = ""] =
      /^(?:bearer|token) (.+)$/i.exec(request.headers.authorization ?? "") ?? [];
    if (this.state.tokens.has(token)) return "installation";
    return this.state.isApp(token) ? "app" : "nobody";
  }
}

function send(
  response: ServerResponse,
  said: FakeAnswer & { headers?: Record<string, string>; raw?: string },
  headers: Record<string, string>,
): void {
  const type = { "content-type": "application/json; charset=utf-8" };
  response.writeHead(said.status, { ...type, ...headers, ...said.headers });
  response.end(said.raw ?? (said.body === undefined ? "" : JSON.stringify(said.body)));
}

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}
