import type { RequestListener } from "node:http";
import type { RunDesk } from "../executor/desk.ts";
import type { Door } from "../executor/door.ts";
import { guestRoutes } from "../web/guest-routes.ts";
import { listenSocket } from "../web/listen.ts";
import { silentLog } from "../fleet/log.ts";

// Imported, each of its exports is looked at, and so all of Node's fetch loaded: many times its own.
const { createServer } = process.getBuiltinModule("node:http");

/** A run brings out what the disk has room for; this is only against nonsense. */
const artifactBytesMax = 2 ** 40;
/** One machine's two connections and its shell's, and those that it gave up. */
const connectionsMax = 16;

export interface Served {
  close(): Promise<void>;
}

/** Serves one machine's guest on a socket, with the routes that a fleet's guests know. */
export async function serveDesk(desk: RunDesk, door: Door, path: string): Promise<Served> {
  const draining = new AbortController();
  const routes = guestRoutes(desk, silentLog, draining.signal, artifactBytesMax);
  const served = await serve(path, door, (incoming, outgoing) => {
    if (!routes(incoming, outgoing)) outgoing.writeHead(404).end();
  });
  return {
    close: () => {
      draining.abort();
      return served.close();
    },
  };
}

/** Serves only the way into a machine whose run is over: its guest is told to ask again later. */
export function serveDoor(door: Door, path: string): Promise<Served> {
  return serve(path, door, (_, outgoing) => void outgoing.writeHead(503).end());
}

async function serve(path: string, door: Door, answer: RequestListener): Promise<Served> {
  // A large artifact may take its time; the run itself has an end.
  const server = createServer({ requestTimeout: 0 }, answer);
  server.maxConnections = connectionsMax;
  server.on("upgrade", door.knock);
  await listenSocket(server, path);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
