import { createRoute, z } from "@hono/zod-openapi";
import { MayflyError } from "../../domain/errors.ts";
import { facts, type Web } from "../web.ts";
import { answer, newApi, refusals, type Api } from "./routes.ts";

const Status = z.object({ status: z.enum(["ok", "unready"]), detail: z.string().optional() });

const aliveRoute = createRoute({
  method: "get",
  path: "/healthz",
  summary: "Whether the process answers; for a supervisor",
  responses: { 200: answer("It does", Status) },
});

const readyRoute = createRoute({
  method: "get",
  path: "/readyz",
  summary: "Whether every part has started and the store answers; for a load balancer",
  responses: { 200: answer("Ready", Status), 503: answer("Not ready", Status) },
});

const metricsRoute = createRoute({
  method: "get",
  path: "/metrics",
  summary: "Prometheus metrics",
  responses: {
    200: { description: "Metrics", content: { "text/plain": { schema: z.string() } } },
    ...refusals(401, 404),
  },
});

export function healthRoutes(web: Web): Api {
  const api = newApi();

  api.openapi(aliveRoute, (c) => c.json({ status: "ok" as const }, 200));

  api.openapi(readyRoute, async (c) => {
    const { ok, detail } = web.draining.aborted
      ? { ok: false, detail: "stopping" }
      : await web.fleet.ready();
    // Details may name hosts: only for those who may read.
    const more = web.access.mayRead(facts(c)) ? { detail } : {};
    return ok
      ? c.json({ status: "ok" as const, ...more }, 200)
      : c.json({ status: "unready" as const, ...more }, 503);
  });

  api.openapi(metricsRoute, async (c) => {
    if (web.metrics === null) throw new MayflyError("not_found", "metrics are switched off");
    c.header("content-type", web.metrics.contentType);
    return c.body(await web.metrics.render(web.fleet), 200) as never;
  });

  return api;
}
