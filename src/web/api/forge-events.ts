import { z } from "@hono/zod-openapi";
import { readBody } from "../body.ts";
import { ReceivedSchema } from "../schemas.ts";
import type { Web } from "../web.ts";
import { addRaw, answer, newApi, refusals, type Api } from "./routes.ts";

/**
 * Where forges send their events. Each is authenticated by its own signature over the raw bytes, so
 * it comes before everything that asks who is there, and costs as little as possible: the bytes are
 * taken from Node's own request.
 */
export function forgeEventRoutes(web: Web): Api {
  const api = newApi();
  const { limits, bodies, fleet } = web;
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
      const body = await readBody(c.env.incoming, {
        maxBytes: limits.eventBytesMax,
        deadlineMs: limits.bodyMs,
        budget: bodies,
      });
      const headers = plainHeaders(c.env.incoming.headers);
      const received = await fleet.intake.receive(c.req.param("forge") ?? "", { headers, body });
      return c.json({ ...received, jobs: [...received.jobs] }, 202);
    },
  );
  return api;
}

/** Node gives names in lower case, and joins all that may be given twice but a few. */
function plainHeaders(headers: NodeJS.Dict<string | string[]>): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join(", ") : value,
    ]),
  );
}
