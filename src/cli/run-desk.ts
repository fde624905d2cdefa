import { getRequestListener } from "@hono/node-server";
import { createServer } from "node:http";
import type { RunDesk } from "../executor/desk.ts";
import { guestRoutes } from "../web/guest-routes.ts";
import { listenSocket } from "../web/listen.ts";
import { silentLog } from "../fleet/log.ts";

/** A run brings out what the disk has room for; this is only against nonsense. */
const artifactBytesMax = 2 ** 40;
/** One machine's two connections, and those that it gave up. */
const connectionsMax = 16;

/** Serves one machine's guest on a socket, with the routes that a fleet's guests know. */
export async function serveDesk(
  desk: RunDesk,
  path: string,
): Promise<{ close: () => Promise<void> }> {
  const draining = new AbortController();
  const routes = guestRoutes(desk, silentLog, draining.signal, artifactBytesMax);
  const answer = getRequestListener(routes.fetch);
  // A large artifact may take its time; the run itself has an end.
  const server = createServer({ requestTimeout: 0 }, (incoming, outgoing) => {
    void answer(incoming, outgoing);
  });
  server.maxConnections = connectionsMax;
  await listenSocket(server, path);
  return {
    close: () =>
      new Promise((resolve) => {
        draining.abort();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
