import { createRoute, z } from "@hono/zod-openapi";
import { poolTotals } from "../../store/questions.ts";
import { PoolSchema, ProviderSchema } from "../schemas.ts";
import { poolView, providerView, type PoolView } from "../views.ts";
import type { Web } from "../web.ts";
import { answer, newApi, refusals, type Api } from "./routes.ts";

const poolsRoute = createRoute({
  method: "get",
  path: "/v1/pools",
  summary: "Pools: limits, counts, and the last plan with its reasons",
  responses: {
    200: answer("The pools", z.object({ pools: z.array(PoolSchema) })),
    ...refusals(401),
  },
});

const providersRoute = createRoute({
  method: "get",
  path: "/v1/providers",
  summary: "Providers: what they lend, and whether they can",
  responses: {
    200: answer("The providers", z.object({ providers: z.array(ProviderSchema) })),
    ...refusals(401),
  },
});

export function fleetRoutes(web: Web): Api {
  const api = newApi();

  api.openapi(poolsRoute, async (c) => c.json({ pools: await poolViews(web) }, 200));

  api.openapi(providersRoute, async (c) => {
    const providers = await Promise.all(
      web.fleet.providers().map(async (one) => providerView(one, await web.checks.of(one))),
    );
    return c.json({ providers }, 200);
  });

  return api;
}

export async function poolViews(web: Web): Promise<PoolView[]> {
  const totals = await poolTotals(web.fleet.store.db);
  const none = { waiting: 0, booting: 0, idle: 0, busy: 0, ending: 0 };
  return web.fleet.pools.map((pool) =>
    poolView(pool, totals.get(pool.name) ?? none, web.fleet.lastPlan(pool.name), web.now()),
  );
}
