import { createRoute, z } from "@hono/zod-openapi";
import { MayflyError } from "../../domain/errors.ts";
import { runnerStates, type Runner } from "../../domain/runner.ts";
import { history } from "../../store/facts.ts";
import { findRunner, listRunners, type RunnerFilter } from "../../store/questions.ts";
import { FactSchema, MachineSchema, RunnerSchema } from "../schemas.ts";
import { factView, machineView, runnerView } from "../views.ts";
import type { Web } from "../web.ts";
import {
  answer,
  BeforeParam,
  isName,
  LimitParam,
  NameParam,
  nameText,
  newApi,
  parseBefore,
  refusals,
  type Api,
} from "./routes.ts";

const ListQuery = z.object({
  state: z
    .enum([...runnerStates, "alive"])
    .optional()
    .openapi({
      description: "`alive`: every state but gone",
    }),
  pool: nameText(100).optional(),
  before: BeforeParam,
  limit: LimitParam,
});

const Next = z.string().nullable().openapi({ description: "`before` of the next page" });

const runnersRoute = createRoute({
  method: "get",
  path: "/v1/runners",
  summary: "Runners, newest first: what forges see",
  request: { query: ListQuery },
  responses: {
    200: answer("A page of runners", z.object({ runners: z.array(RunnerSchema), next: Next })),
    ...refusals(400, 401),
  },
});

const machinesRoute = createRoute({
  method: "get",
  path: "/v1/machines",
  summary: "Machines, newest first: what providers made, and what it costs",
  request: { query: ListQuery },
  responses: {
    200: answer("A page of machines", z.object({ machines: z.array(MachineSchema), next: Next })),
    ...refusals(400, 401),
  },
});

const machineRoute = createRoute({
  method: "get",
  path: "/v1/machines/{name}",
  summary: "A machine; it bears its runner's name",
  request: { params: NameParam },
  responses: { 200: answer("The machine", MachineSchema), ...refusals(400, 401, 404) },
});

const machineHistoryRoute = createRoute({
  method: "get",
  path: "/v1/machines/{name}/history",
  summary: "What was decided about a machine, and why, oldest first",
  request: { params: NameParam },
  responses: {
    200: answer("Its facts", z.object({ facts: z.array(FactSchema) })),
    ...refusals(400, 401, 404),
  },
});

export function machineRoutes(web: Web): Api {
  const api = newApi();
  const { db } = web.fleet.store;

  api.openapi(runnersRoute, async (c) => {
    const query = c.req.valid("query");
    const runners = await listRunners(db, runnerFilter(query));
    return c.json({ runners: runners.map(runnerView), next: nextPage(runners, query.limit) }, 200);
  });

  api.openapi(machinesRoute, async (c) => {
    const query = c.req.valid("query");
    const runners = await listRunners(db, runnerFilter(query));
    const machines = runners.map((runner) => machineView(runner, web.now()));
    return c.json({ machines, next: nextPage(runners, query.limit) }, 200);
  });

  api.openapi(machineRoute, async (c) => {
    const runner = await runnerOrThrow(web, c.req.valid("param").name);
    return c.json(machineView(runner, web.now()), 200);
  });

  api.openapi(machineHistoryRoute, async (c) => {
    const runner = await runnerOrThrow(web, c.req.valid("param").name);
    return c.json({ facts: (await history(db, runner.name)).map(factView) }, 200);
  });

  return api;
}

function runnerFilter({ state, pool, before, limit }: z.output<typeof ListQuery>): RunnerFilter {
  const from = parseBefore(before);
  const alive = runnerStates.filter((one) => one !== "gone");
  return {
    ...(state === undefined ? {} : { states: state === "alive" ? alive : [state] }),
    ...(pool === undefined ? {} : { pool }),
    ...(from === null ? {} : { before: from.at }),
    ...(from?.id === undefined ? {} : { beforeName: from.id }),
    limit,
  };
}

export function nextPage(runners: readonly Runner[], limit: number): string | null {
  const last = runners.at(-1);
  return last === undefined || runners.length < limit ? null : `${last.claimedAt}:${last.name}`;
}

export async function runnerOrThrow(web: Web, name: string): Promise<Runner> {
  const runner = isName(name) ? await findRunner(web.fleet.store.db, name) : null;
  if (runner !== null) return runner;
  throw new MayflyError("not_found", `there is no machine ${JSON.stringify(name)}`, {
    where: "name",
    hint: "GET /v1/machines lists them.",
  });
}
