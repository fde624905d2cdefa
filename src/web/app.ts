import type { Context, Hono } from "hono";
import { problemResponse, toProblem } from "./errors.ts";
import { brokerRoutes } from "./api/broker.ts";
import { feedRoutes } from "./api/feed.ts";
import { fleetRoutes } from "./api/fleet.ts";
import { forgeEventRoutes } from "./api/forge-events.ts";
import { healthRoutes } from "./api/health.ts";
import { jobRoutes } from "./api/jobs.ts";
import { logRoutes } from "./api/log.ts";
import { machineRoutes } from "./api/machines.ts";
import { newApi } from "./api/routes.ts";
import { submitRoutes } from "./api/submit.ts";
import { guard, isPage, securityHeaders } from "./guard.ts";
import { pageRoutes } from "./pages/routes.ts";
import { problemPage } from "./pages/problem.ts";
import { MayflyError } from "../domain/errors.ts";
import type { Env, Web } from "./web.ts";

/** Everything that is served on the address people and forges know. */
export function createApp(web: Web): Hono<Env> {
  const app = newApi();
  app.onError((error, c) => refuse(web, c, error));
  app.notFound((c) => refuse(web, c, new MayflyError("not_found", "there is no such page")));

  // They prove themselves: by a signature, and by a run that is in progress at its forge.
  app.route("/", forgeEventRoutes(web));
  app.route("/", brokerRoutes(web));

  app.use("*", securityHeaders, guard(web));
  for (const routes of [
    healthRoutes,
    submitRoutes,
    jobRoutes,
    logRoutes,
    machineRoutes,
    fleetRoutes,
    feedRoutes,
  ]) {
    app.route("/", routes(web));
  }
  app.route("/", pageRoutes(web));

  app.openAPIRegistry.registerComponent("securitySchemes", "token", {
    type: "http",
    scheme: "bearer",
    description: "The server's token. Reading needs it only from beyond this machine.",
  });
  app.doc31("/v1/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "Mayfly",
      version: web.version,
      description: "Gives every CI job a machine of its own that lives for that one job.",
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    security: [{}, { token: [] }],
  });
  return app;
}

function refuse(web: Web, c: Context<Env>, error: unknown): Response | Promise<Response> {
  const problem = toProblem(error, web.log);
  const wantsPage = isPage(c.req.path) && (c.req.header("accept") ?? "").includes("text/html");
  return wantsPage ? problemPage(web, c, problem) : problemResponse(problem);
}
