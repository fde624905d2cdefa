import { createRoute, z } from "@hono/zod-openapi";
import { factsSince, newestFactId } from "../../store/statistics.ts";
import type { Store } from "../../store/store.ts";
import { heartbeatMs, pause, type StreamEvent, type Watch } from "../sse.ts";
import { factView } from "../views.ts";
import type { Web } from "../web.ts";
import { lastEventId, nameText, newApi, refusals, type Api } from "./routes.ts";

const factsAtOnce = 200;
const gatherMs = 200;
/**
 * PostgreSQL numbers facts before it commits them, so that one with a smaller number may appear
 * later: so many numbers back are looked at again.
 */
const overlap = 200;

const eventsRoute = createRoute({
  method: "get",
  path: "/v1/events",
  summary: "The history as it is written, as server-sent events",
  description:
    "Events are named `fact`, with a Fact as data and its `id` as the event's. Reconnecting with " +
    "`Last-Event-ID` goes on where the stream broke; a fact may then come twice.",
  request: {
    query: z.object({
      after: z.coerce
        .number()
        .int()
        .min(0)
        .openapi({ type: "integer" })
        .optional()
        .openapi({ description: "Begin after this fact; else with the next one" }),
      subject: nameText(300).optional().openapi({
        description: "Only of this job, machine, pool or provider",
      }),
    }),
  },
  responses: {
    200: { description: "A stream", content: { "text/event-stream": { schema: z.string() } } },
    ...refusals(400, 401, 503),
  },
});

export function feedRoutes(web: Web): Api {
  const api = newApi();
  const { store } = web.fleet;

  api.openapi(eventsRoute, async (c) => {
    const { after, subject } = c.req.valid("query");
    const from = lastEventId(c) ?? after ?? (await newestFactId(store.db));
    return web.streams.respond(
      c.req.method,
      () => true,
      (watch, signal) => followFacts(store, from, subject, watch, signal),
    );
  });

  return api;
}

async function* followFacts(
  store: Store,
  from: number,
  subject: string | undefined,
  watch: Watch,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent | null, void, undefined> {
  const back = store.engine === "postgres" ? overlap : 0;
  const which = subject === undefined ? {} : { subject };
  let newest = from;
  const told = new Set<number>();
  while (!signal.aborted) {
    let read = Math.max(from, newest - back);
    for (;;) {
      const facts = await factsSince(store.db, read, which, factsAtOnce);
      for (const fact of facts) {
        if (told.has(fact.id)) continue;
        if (back > 0) told.add(fact.id);
        yield { event: "fact", id: String(fact.id), data: JSON.stringify(factView(fact)) };
      }
      read = facts.at(-1)?.id ?? read;
      if (facts.length < factsAtOnce) break;
    }
    newest = Math.max(newest, read);
    for (const id of told) if (id <= newest - back) told.delete(id);
    if (await watch.next(heartbeatMs, signal)) await pause(gatherMs, signal);
    else yield null;
  }
}
