import { createRoute, z } from "@hono/zod-openapi";
import { MayflyError } from "../../domain/errors.ts";
import { jobStates } from "../../domain/job.ts";
import { history } from "../../store/facts.ts";
import { findJob, findRunner, listJobs, type StoredJob } from "../../store/questions.ts";
import { runnersNamed } from "../../store/statistics.ts";
import { FactSchema, JobSchema, WhySchema } from "../schemas.ts";
import { factView, jobView, type JobView } from "../views.ts";
import type { Web } from "../web.ts";
import { why } from "../why.ts";
import {
  answer,
  BeforeParam,
  IdParam,
  isName,
  LimitParam,
  nameText,
  newApi,
  parseBefore,
  refusals,
  type Api,
} from "./routes.ts";

const listRoute = createRoute({
  method: "get",
  path: "/v1/jobs",
  summary: "Jobs, newest first",
  request: {
    query: z.object({
      state: z.enum(jobStates).optional(),
      pool: nameText(100).optional(),
      before: BeforeParam,
      limit: LimitParam,
    }),
  },
  responses: {
    200: answer(
      "A page of jobs",
      z.object({
        jobs: z.array(JobSchema),
        next: z.string().nullable().openapi({ description: "`before` of the next page" }),
      }),
    ),
    ...refusals(400, 401),
  },
});

const oneRoute = createRoute({
  method: "get",
  path: "/v1/jobs/{id}",
  summary: "One job, as it stands",
  request: { params: IdParam },
  responses: { 200: answer("The job", JobSchema), ...refusals(400, 401, 404) },
});

const historyRoute = createRoute({
  method: "get",
  path: "/v1/jobs/{id}/history",
  summary: "What was decided about a job, and why, oldest first",
  request: { params: IdParam },
  responses: {
    200: answer("Its facts", z.object({ facts: z.array(FactSchema) })),
    ...refusals(400, 401, 404),
  },
});

const whyRoute = createRoute({
  method: "get",
  path: "/v1/why/{id}",
  summary: "Why a job waits, is where it is, or ended; why a machine is there",
  request: { params: IdParam },
  responses: { 200: answer("In plain words", WhySchema), ...refusals(400, 401, 404) },
});

export function jobRoutes(web: Web): Api {
  const api = newApi();
  const { fleet, now } = web;
  const { db } = fleet.store;

  api.openapi(listRoute, async (c) => {
    const { state, pool, before, limit } = c.req.valid("query");
    const from = parseBefore(before);
    const jobs = await listJobs(db, {
      ...(state === undefined ? {} : { state }),
      ...(pool === undefined ? {} : { pool }),
      ...(from === null ? {} : { before: from.at }),
      ...(from?.id === undefined ? {} : { beforeId: from.id }),
      limit,
    });
    const last = jobs.at(-1);
    const next = last === undefined || jobs.length < limit ? null : `${last.queuedAt}:${last.id}`;
    return c.json({ jobs: await jobViews(web, jobs), next }, 200);
  });

  api.openapi(oneRoute, async (c) => {
    const job = await jobOrThrow(web, c.req.valid("param").id);
    const machine = job.runner === null ? null : await findRunner(db, job.runner);
    return c.json(jobView(job, machine, now()), 200);
  });

  api.openapi(historyRoute, async (c) => {
    const job = await jobOrThrow(web, c.req.valid("param").id);
    return c.json({ facts: (await history(db, job.id)).map(factView) }, 200);
  });

  api.openapi(whyRoute, async (c) => {
    const { because, ...rest } = await why(fleet, c.req.valid("param").id, now());
    return c.json({ ...rest, because: [...because] }, 200);
  });

  return api;
}

/** Jobs with what their machines cost. */
async function jobViews(web: Web, jobs: readonly StoredJob[]): Promise<JobView[]> {
  const names = jobs.flatMap(({ runner }) => runner ?? []);
  const machines = await runnersNamed(web.fleet.store.db, names);
  const now = web.now();
  return jobs.map((job) =>
    jobView(job, (job.runner === null ? null : machines.get(job.runner)) ?? null, now),
  );
}

export async function jobOrThrow(web: Web, id: string): Promise<StoredJob> {
  const job = isName(id) ? await findJob(web.fleet.store.db, id) : null;
  if (job !== null) return job;
  throw new MayflyError("not_found", `there is no job ${JSON.stringify(id.slice(0, 100))}`, {
    where: "id",
    hint: "GET /v1/jobs lists them.",
  });
}
