import { getRequestListener } from "@hono/node-server";
import { z } from "@hono/zod-openapi";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Received } from "../../fleet/api.ts";
import { addressOf } from "../address.ts";
import { readBody } from "../body.ts";
import { problemResponse, toProblem } from "../errors.ts";
import { ReceivedSchema } from "../schemas.ts";
import type { Web } from "../web.ts";
import { addRaw, answer, newApi, refusals, type Api } from "./routes.ts";

/**
 * Where forges send their events. Each is authenticated by its own signature over the raw bytes, so
 * it comes before everything that asks who is there.
 */
export function forgeEventRoutes(web: Web): Api {
  const api = newApi();
  addRaw(
    api,
    {
      method: "post",
      path: "/v1/forges/{forge}/events",
      summary: "An event of a forge (a webhook), authenticated by its signature",
      request: {
        params: z.object({ forge: z.string() }),
        body: { required: true, content: { "application/json": { schema: z.unknown() } } },
      },
      responses: {
        202: answer(
          "Stored; also when nothing came of it, and then `note` says why",
          ReceivedSchema,
        ),
        ...refusals(400, 401, 404, 413, 429, 503),
      },
    },
    async (c) => {
      const received = await receive(web, c.req.param("forge") ?? "", c.env.incoming);
      return c.json({ ...received, jobs: [...received.jobs] }, 202);
    },
  );
  return api;
}

/** The path as forges write it; a rarer spelling of it takes the framework's way. */
const usualPath = /^\/v1\/forges\/([a-z0-9-]+)\/events$/;

/**
 * Answers an event before the framework is entered, which would take as long as storing it. False:
 * this is none, and is left to the routes.
 */
export function answerEvent(
  web: Web,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): boolean {
  const forge = incoming.method === "POST" ? usualPath.exec(incoming.url ?? "")?.[1] : undefined;
  if (forge === undefined) return false;
  receive(web, forge, incoming).then(
    (received) => {
      const body = JSON.stringify(received);
      const length = Buffer.byteLength(body);
      const headers = { "content-type": "application/json", "content-length": length };
      outgoing.writeHead(202, headers).end(body);
    },
    (error: unknown) => {
      // The framework's way also takes in the rest of a body that we did not want.
      const refuse = getRequestListener(() => problemResponse(toProblem(error, web.log)));
      void refuse(incoming, outgoing);
    },
  );
  return true;
}

async function receive(web: Web, forge: string, incoming: IncomingMessage): Promise<Received> {
  const body = await readBody(incoming, {
    maxBytes: web.limits.eventBytesMax,
    deadlineMs: web.limits.bodyMs,
    budget: web.bodies,
  });
  // Node gives names in lower case and joins what is given twice, all but cookies that are set.
  const headers = incoming.headers as Readonly<Record<string, string | undefined>>;
  return web.fleet.intake.receive(forge, { headers, body, address: addressOf(incoming) });
}
