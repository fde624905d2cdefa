import { getRequestListener } from "@hono/node-server";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Broker } from "../broker/broker.ts";
import { MayflyError } from "../domain/errors.ts";
import type { Fleet } from "../fleet/api.ts";
import type { Log } from "../fleet/log.ts";
import { Access, tokenLengthMin } from "./access.ts";
import { answerEvent } from "./api/forge-events.ts";
import { createApp } from "./app.ts";
import { BodyBudget } from "./body.ts";
import { answerBroker } from "./broker-wire.ts";
import { Checks } from "./checks.ts";
import { guestRoutes } from "./guest-routes.ts";
import { listenSocket, listenTcp, parseListen, type TcpAddress } from "./listen.ts";
import type { Metrics } from "./metrics.ts";
import { EventStreams } from "./sse.ts";
import { Trends } from "./trends.ts";
import { defaultLimits, type Limits, type Web } from "./web.ts";

export interface ServeOptions {
  readonly fleet: Fleet;
  /** `HOST:PORT`; port 0 takes any. */
  readonly listen: string;
  /** What a caller needs to change anything, or to read from afar. Null: nobody can. */
  readonly token: string | null;
  /** Where machines on this host reach us; null: none do. */
  readonly guestSocket: string | null;
  readonly log: Log;
  readonly now: () => number;
  readonly version: string;
  readonly metrics?: Metrics;
  /** Absent: machines are lent to nobody. */
  readonly broker?: Broker | undefined;
  readonly limits?: Partial<Limits>;
}

export interface Served {
  readonly url: string;
  /** Ends streams and waits, and refuses what is new in words; the rest goes on until `close`. */
  drain(): void;
  /** Stops taking, ends streams, lets what is under way end for a while, then closes all. */
  close(): Promise<void>;
}

/**
 * Serves the API, the dashboard, forges' events and guests. Throws `invalid` for an address that
 * others can reach without a token to guard it, `conflict` when the address is taken.
 */
export async function serve(options: ServeOptions): Promise<Served> {
  const address = await parseListen(options.listen);
  requireToken(address, options.token);
  const { fleet, log, now, version } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const closing = new AbortController();
  const web: Web = {
    fleet,
    log,
    now,
    version,
    limits,
    access: new Access(options.token, !address.isLoopback, now),
    streams: new EventStreams(fleet.store, limits.streamsMax, closing.signal, (error) =>
      log.warn({ error: String(error) }, "a live stream broke"),
    ),
    bodies: new BodyBudget(limits.heldBytesMax),
    strangersBodies: new BodyBudget(limits.strangersBytesMax),
    broker: options.broker ?? null,
    checks: new Checks(now),
    trends: new Trends(fleet.store, now),
    metrics: options.metrics ?? null,
    draining: closing.signal,
  };
  const stopCounting = await web.metrics?.follow(fleet.store, log, now);
  const servers: Server[] = [];
  const close = async (): Promise<void> => {
    closing.abort();
    stopCounting?.();
    await Promise.all(servers.map((server) => closeServer(server, limits.closeMs)));
  };
  try {
    const routes = getRequestListener(createApp(web).fetch);
    // Guests prove themselves by a claim or session of their machine.
    const guests = guestRoutes(fleet.guests, log, web.draining);
    const tcp = boundedServer((incoming, outgoing) => {
      if (answerEvent(web, incoming, outgoing) || guests(incoming, outgoing)) return;
      if (answerBroker(web, incoming, outgoing)) return;
      void routes(incoming, outgoing);
    }, limits);
    const port = await listenTcp(tcp, address);
    servers.push(tcp);
    if (options.guestSocket !== null) {
      const local = boundedServer((incoming, outgoing) => {
        if (!guests(incoming, outgoing)) outgoing.writeHead(404).end();
      }, limits);
      await listenSocket(local, options.guestSocket);
      servers.push(local);
    }
    const host = address.host.includes(":") ? `[${address.host}]` : address.host;
    return { url: `http://${host}:${port}`, drain: () => closing.abort(), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function requireToken({ host, isLoopback }: TcpAddress, token: string | null): void {
  if (isLoopback) return;
  if (token === null) {
    throw new MayflyError("invalid", `${host} can be reached by others, and there is no token`, {
      where: "listen",
      hint: "Give the server a token, or listen on 127.0.0.1 and let a proxy or an SSH tunnel in.",
    });
  }
  if (token.length < tokenLengthMin) {
    throw new MayflyError("invalid", `the token has only ${token.length} characters`, {
      where: "token",
      hint: `Where others can reach it, take at least ${tokenLengthMin}: \`openssl rand -hex 16\` makes one.`,
    });
  }
}

/** Everything a slow or greedy client could hold on to has an end. */
function boundedServer(
  answer: (incoming: IncomingMessage, outgoing: ServerResponse) => unknown,
  limits: Limits,
): Server {
  const server = createServer(
    {
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      keepAliveTimeout: limits.silenceMs,
      connectionsCheckingInterval: Math.min(5_000, limits.headersMs),
      maxHeaderSize: 16_384,
    },
    (incoming, outgoing) => void answer(incoming, outgoing),
  );
  server.maxConnections = limits.connectionsMax;
  server.timeout = limits.silenceMs;
  return server;
}

function closeServer(server: Server, deadlineMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), deadlineMs);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    server.closeIdleConnections();
  });
}
