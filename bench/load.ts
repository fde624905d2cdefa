import { connect, type Socket } from "node:net";

export interface Loaded {
  readonly seconds: number;
  /** Milliseconds from sending to the whole answer, in order of answers. */
  readonly latenciesMs: readonly number[];
  readonly statuses: ReadonlyMap<number, number>;
}

/** An HTTP request, ready to be written to a socket. */
export function request(
  path: string,
  headers: Readonly<Record<string, string>>,
  body: string,
): Buffer {
  const bytes = Buffer.from(body);
  const head = Object.entries({
    host: "127.0.0.1",
    "content-type": "application/json",
    "content-length": String(bytes.length),
    ...headers,
  });
  const lines = head.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\n${lines}\r\n`), bytes]);
}

/**
 * Sends the requests over `connections` kept open, one at a time on each; `perSecond` paces them
 * (0: as fast as answers come). A bare socket client, so that the client costs little beside the
 * server that is measured.
 */
export async function load(
  port: number,
  requests: readonly Buffer[],
  { connections, perSecond = 0 }: { connections: number; perSecond?: number },
): Promise<Loaded> {
  const latenciesMs: number[] = [];
  const statuses = new Map<number, number>();
  const sockets = await Promise.all(Array.from({ length: connections }, () => open(port)));
  const startedAt = performance.now();
  let next = 0;
  const run = async (socket: Socket): Promise<void> => {
    const answers = reader(socket);
    for (let index = next++; index < requests.length; index = next++) {
      if (perSecond > 0) await until(startedAt + (index * 1000) / perSecond);
      const sentAt = performance.now();
      socket.write(requests[index] as Buffer);
      const status = await answers();
      latenciesMs.push(performance.now() - sentAt);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
    socket.destroy();
  };
  await Promise.all(sockets.map(run));
  return { seconds: (performance.now() - startedAt) / 1000, latenciesMs, statuses };
}

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket));
    socket.setNoDelay(true);
    socket.once("error", reject);
  });
}

/** Reads one answer a call: the status line, headers, and the body by its length or chunks. */
function reader(socket: Socket): () => Promise<number> {
  let buffered = "";
  let wanted: ((status: number) => void) | undefined;
  const look = (): void => {
    const headEnd = buffered.indexOf("\r\n\r\n");
    if (headEnd === -1 || wanted === undefined) return;
    const head = buffered.slice(0, headEnd).toLowerCase();
    const length = /content-length: (\d+)/.exec(head)?.[1];
    const bodyStart = headEnd + 4;
    let end = bodyStart + Number(length ?? 0);
    if (length === undefined && head.includes("transfer-encoding: chunked")) {
      const last = buffered.indexOf("0\r\n\r\n", bodyStart);
      if (last === -1) return;
      end = last + 5;
    }
    if (buffered.length < end) return;
    buffered = buffered.slice(end);
    const done = wanted;
    wanted = undefined;
    done(Number(head.slice(9, 12)));
  };
  socket.on("data", (bytes) => {
    buffered += bytes.toString("latin1");
    look();
  });
  return () =>
    new Promise((resolve) => {
      wanted = resolve;
      look();
    });
}

function until(at: number): Promise<void> {
  const ms = at - performance.now();
  return ms <= 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
}
