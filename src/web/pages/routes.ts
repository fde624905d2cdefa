import { Hono, type Context } from "hono";
import { MayflyError } from "../../domain/errors.ts";
import { jobStates } from "../../domain/job.ts";
import { findJob, findRunner } from "../../store/questions.ts";
import { newestFactId } from "../../store/statistics.ts";
import type { Database } from "../../store/store.ts";
import { assets } from "../assets.ts";
import { jobOrThrow } from "../api/jobs.ts";
import { isName } from "../api/routes.ts";
import { heartbeatMs, pause, type StreamEvent, type Watch } from "../sse.ts";
import { trendWindows } from "../trends.ts";
import { facts, type Env, type Web } from "../web.ts";
import { healthPage } from "./health.ts";
import { jobPage } from "./job.ts";
import { logOf } from "../../store/logs.ts";
import { followPainted } from "./joblog.ts";
import { jobsPage } from "./jobs.ts";
import { render, type Page } from "./layout.ts";
import { machinePage, machinesPage } from "./machines.ts";
import { overviewPage } from "./overview.ts";
import { poolsPage } from "./pools.ts";
import { sessionForm, signIn, signInPage, signOut } from "./session.ts";

/** A page is told of changes at most so often. */
const noteEveryMs = 1000;

export function pageRoutes(web: Web): Hono<Env> {
  const app = new Hono<Env>();
  const show = async (c: Context<Env>, page: Page | Promise<Page>, status: 200 | 401 = 200) =>
    c.html(await render(web, c, await page), status);

  app.get("/", (c) => {
    const asked = c.req.query("window");
    return show(c, overviewPage(web, trendWindows.find((one) => one === asked) ?? "24h"));
  });
  app.get("/jobs", (c) => {
    const { state, pool, before } = c.req.query();
    return show(
      c,
      jobsPage(web, {
        state: jobStates.find((one) => one === state) ?? null,
        pool: pool !== undefined && isName(pool) ? pool : null,
        before: cursor(before),
      }),
    );
  });
  app.get("/jobs/:id", (c) => {
    const asked = c.req.query("before") ?? "";
    const before = /^[0-9]{1,15}$/.test(asked) ? asked : null;
    const session = web.access.session(facts(c));
    return show(
      c,
      jobPage(web, c.req.param("id"), before === null ? null : Number(before), session),
    );
  });
  app.get("/jobs/:id/live", async (c) => {
    const job = await jobOrThrow(web, c.req.param("id"));
    const { id } = job;
    return web.streams.respond(
      c.req.method,
      (topic) => topic === `job/${id}` || topic === `job/${logOf(job)}`,
      (watch, signal) => followPainted(web.fleet.store.db, id, watch, signal),
    );
  });
  app.post("/jobs/:id/cancel", async (c) => {
    await sessionForm(web, c);
    const { id } = await jobOrThrow(web, c.req.param("id"));
    const job = await web.fleet.native.cancel(id, "cancelled on the dashboard");
    return c.redirect(`/jobs/${encodeURIComponent(job.id)}`, 303);
  });
  app.get("/machines", (c) => {
    const { all, before } = c.req.query();
    return show(c, machinesPage(web, all !== undefined, cursor(before)));
  });
  app.get("/machines/:name", (c) => show(c, machinePage(web, c.req.param("name"))));
  app.get("/pools", (c) => show(c, poolsPage(web)));
  app.get("/health", (c) => show(c, healthPage(web)));
  app.get("/find", (c) => find(web, c));
  app.get("/live", (c) => {
    const topic = c.req.query("topic") ?? "all";
    return web.streams.respond(
      c.req.method,
      (one) => topic === "all" || one === topic,
      (watch, signal) => noteChanges(web.fleet.store.db, watch, signal),
    );
  });

  app.get("/sign-in", (c) => show(c, signInPage(web, c.req.query("to") ?? "/", false)));
  app.post("/sign-in", async (c) => {
    const done = await signIn(web, c);
    return done instanceof Response ? done : show(c, signInPage(web, done.to, true), 401);
  });
  app.post("/sign-out", (c) => signOut(web, c));

  app.get("/assets/*", (c) => {
    const asset = assets.get(c.req.path);
    if (asset === undefined) throw new MayflyError("not_found", "there is no such file");
    return c.body(asset.bytes as Uint8Array<ArrayBuffer>, 200, {
      "content-type": asset.type,
      "cache-control": "public, max-age=31536000, immutable",
    });
  });
  return app;
}

function cursor(before: string | undefined): string | null {
  return before !== undefined && /^[0-9]{1,15}(:\P{Cc}{1,300})?$/u.test(before) ? before : null;
}

async function find(web: Web, c: Context<Env>): Promise<Response> {
  const id = (c.req.query("id") ?? "").trim();
  const { db } = web.fleet.store;
  if (!isName(id)) throw new MayflyError("not_found", "that is no id of a job or a machine");
  if ((await findJob(db, id)) !== null) return c.redirect(`/jobs/${encodeURIComponent(id)}`, 303);
  if ((await findRunner(db, id)) !== null) {
    return c.redirect(`/machines/${encodeURIComponent(id)}`, 303);
  }
  throw new MayflyError("not_found", `there is no job and no machine "${id.slice(0, 100)}"`);
}

/** Tells a page that something was decided; what, it fetches itself. Output alone is no news. */
async function* noteChanges(
  db: Database,
  watch: Watch,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent | null, void, undefined> {
  let newest = await newestFactId(db);
  yield { event: "here", data: "" };
  while (!signal.aborted) {
    // A quiet while is looked at too: between replicas a wake-up may be lost.
    const isWoken = await watch.next(heartbeatMs, signal);
    const before = newest;
    newest = await newestFactId(db);
    if (newest !== before) yield { event: "changed", data: "" };
    else if (!isWoken) yield null;
    await pause(noteEveryMs, signal);
  }
}
