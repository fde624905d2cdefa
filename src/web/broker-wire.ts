import type { IncomingMessage, ServerResponse } from "node:http";
import type { Broker } from "../broker/broker.ts";
import { parseWire, wireBytesMax, wireLine } from "../broker/wire.ts";
import { addressOf } from "./address.ts";
import { readBody } from "./body.ts";
import { toProblem } from "./errors.ts";
import { refuseWhenDraining, type Web } from "./web.ts";

const paths: ReadonlySet<string | undefined> = new Set(["/", "/v1/broker"]);

/**
 * Answers rr's protocol: anybody may ask, and what is asked is checked at the forge. Before the
 * framework, so that a flood of nonsense costs little. False: this is no such request.
 */
export function answerBroker(
  web: Web,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): boolean {
  const { broker } = web;
  if (broker === null || incoming.method !== "POST" || !paths.has(incoming.url)) return false;
  let operation = "unknown";
  const reply = (status: number, line: string): void => {
    web.metrics?.brokerAnswered(operation, status);
    send(outgoing, status, line, incoming.complete);
  };
  answer(web, broker, incoming, outgoing, (known) => (operation = known)).then(
    () => reply(200, ""),
    (error: unknown) => {
      const { status, detail, hint } = toProblem(error, web.log);
      reply(status, wireLine({ message: detail, hint }));
    },
  );
  return true;
}

async function answer(
  web: Web,
  broker: Broker,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  known: (operation: string) => void,
): Promise<void> {
  const address = addressOf(incoming);
  broker.admit(address);
  refuseWhenDraining(web);
  const limit = {
    maxBytes: wireBytesMax,
    deadlineMs: web.limits.bodyMs,
    budget: web.strangersBodies,
  };
  const request = parseWire(await readBody(incoming, limit));
  known(request.operation);
  if (request.operation === "destroy") return broker.giveBack(request.labels);
  const { label, architectures, repository, run } = request;
  const wish = { label, architectures, repository, run, isInLabel: request.version === 1 };
  await broker.lend(wish, address);
  // Whoever went away waits for nothing any more; what was lent stays lent.
  const left = new AbortController();
  outgoing.once("close", () => left.abort());
  // A machine takes longer to boot than a connection may be silent.
  incoming.socket.setTimeout(0);
  try {
    await broker.ready(wish, address, AbortSignal.any([web.draining, left.signal]));
  } finally {
    incoming.socket.setTimeout(web.limits.silenceMs);
  }
}

function send(outgoing: ServerResponse, status: number, line: string, isRead: boolean): void {
  const type = line === "" ? {} : { "content-type": "text/plain; charset=utf-8" };
  // What is still to come of a body that we did not want is not waited for.
  const rest = isRead ? {} : { connection: "close" };
  const length = { "content-length": Buffer.byteLength(line) };
  outgoing.writeHead(status, { ...type, ...rest, ...length }).end(line);
}
