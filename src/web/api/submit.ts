import { z } from "@hono/zod-openapi";
import { MayflyError } from "../../domain/errors.ts";
import { findRunner } from "../../store/questions.ts";
import { Capped } from "../body.ts";
import { CancelSchema, JobSchema, SubmissionSchema, TreeSchema } from "../schemas.ts";
import { jobView } from "../views.ts";
import { jobOrThrow } from "./jobs.ts";
import { refuseWhenDraining, type Web } from "../web.ts";
import { addRaw, answer, bearer, IdParam, newApi, readJson, refusals, type Api } from "./routes.ts";

/** What changes something for native jobs. The token has been checked before. */
export function submitRoutes(web: Web): Api {
  const api = newApi();
  const { native, store } = web.fleet;
  let treesUnderWay = 0;

  addRaw(
    api,
    {
      method: "post",
      path: "/v1/jobs",
      summary: "Submit a native job",
      security: bearer,
      request: {
        body: { required: true, content: { "application/json": { schema: SubmissionSchema } } },
      },
      responses: {
        201: answer("The job, stored", JobSchema),
        ...refusals(400, 401, 403, 404, 413, 429, 503),
      },
    },
    async (c) => {
      refuseWhenDraining(web);
      const job = await native.submit(await readJson(web, c, SubmissionSchema));
      c.header("location", `/v1/jobs/${encodeURIComponent(job.id)}`);
      return c.json(jobView(job, null, web.now()), 201);
    },
  );

  addRaw(
    api,
    {
      method: "post",
      path: "/v1/trees",
      summary: "Upload a repository's tree, to submit jobs on",
      security: bearer,
      request: {
        body: {
          required: true,
          description: "A tar archive; nothing in it may lie outside of it",
          content: {
            "application/x-tar": { schema: z.string().openapi({ format: "binary" }) },
          },
        },
      },
      responses: {
        201: answer("Kept under its digest", TreeSchema),
        ...refusals(400, 401, 403, 413, 503),
      },
    },
    async (c) => {
      refuseWhenDraining(web);
      if (treesUnderWay >= web.limits.treesAtOnce) {
        throw new MayflyError("unavailable", `${treesUnderWay} trees are being received already`, {
          hint: "Send it again in a few seconds.",
        });
      }
      if (Number(c.req.header("content-length") ?? 0) > web.limits.treeBytesMax) {
        throw new MayflyError("too_large", `a tree has at most ${web.limits.treeBytesMax} bytes`);
      }
      treesUnderWay += 1;
      const { incoming } = c.env;
      const archive = new Capped(web.limits.treeBytesMax);
      const broken = (): void => {
        archive.destroy(new MayflyError("invalid", "the upload broke off"));
      };
      try {
        incoming.once("error", broken).once("aborted", broken).pipe(archive);
        return c.json(await native.keepTree(archive), 201);
      } finally {
        treesUnderWay -= 1;
        incoming.off("error", broken).off("aborted", broken).unpipe(archive);
      }
    },
  );

  addRaw(
    api,
    {
      method: "post",
      path: "/v1/jobs/{id}/cancel",
      summary: "Cancel a native job: at once when it waits, by its machine when it runs",
      security: bearer,
      request: {
        params: IdParam,
        body: { content: { "application/json": { schema: CancelSchema } } },
      },
      responses: {
        202: answer("The job, ended or asked to end", JobSchema),
        ...refusals(400, 401, 403, 404, 409),
      },
    },
    async (c) => {
      const { reason } = await readJson(web, c, CancelSchema);
      const { id } = await jobOrThrow(web, c.req.param("id") ?? "");
      const job = await native.cancel(id, reason);
      const machine = job.runner === null ? null : await findRunner(store.db, job.runner);
      return c.json(jobView(job, machine, web.now()), 202);
    },
  );

  return api;
}
