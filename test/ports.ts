import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/*
 * Below those that systems give to outgoing connections (Linux: from 32768), so that none of these
 * takes a port while the program it was chosen for has yet to start, or starts again.
 */
const lowest = 10_240;
const highest = 32_767;
const attempts = 100;

/** A port of the loopback address on which nobody listens. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const port = randomInt(lowest, highest + 1);
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port among ${attempts}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
