import { createRoute, z } from "@hono/zod-openapi";
import { Readable } from "node:stream";
import type { Context } from "hono";
import { MayflyError } from "../../domain/errors.ts";
import { listArtifacts, logOf, readLog, type LogFrame } from "../../store/logs.ts";
import { findJob } from "../../store/questions.ts";
import type { Database } from "../../store/store.ts";
import { LineReader, type LogLine } from "../loglines.ts";
import { ArtifactSchema, LogFrameSchema } from "../schemas.ts";
import { heartbeatMs, pause, type StreamEvent, type Watch } from "../sse.ts";
import { frameView } from "../views.ts";
import type { Env, Web } from "../web.ts";
import { jobOrThrow } from "./jobs.ts";
import { answer, IdParam, lastEventId, newApi, refusals, wholeNumber, type Api } from "./routes.ts";

/** Frames read at once; a frame has at most 64 kB. */
const framesAtOnce = 100;
/** A page ends after so many bytes, however many frames it may have. */
const pageBytes = 2_000_000;
/** A burst of output makes one reading. */
const gatherMs = 50;

const FlagParam = z
  .enum(["", "true", "false", "1", "0"])
  .transform((text) => text === "" || text === "true" || text === "1")
  .optional();

const LogQuery = z.object({
  after: wholeNumber(-1, Number.MAX_SAFE_INTEGER, -1).describe(
    "Only frames after this `seq`; `Last-Event-ID` wins over it",
  ),
  limit: wholeNumber(1, 1000, 500),
  format: z.enum(["json", "text"]).optional().openapi({ description: "Else by `Accept`" }),
  follow: FlagParam.openapi({
    type: "string",
    description:
      "Server-sent events: `frame` with a LogFrame and its `seq` as id, then `end` with the job's " +
      "state, outcome and exit code",
  }),
  marks: FlagParam.openapi({
    type: "string",
    description: "In text, each line begins with its time and its stream",
  }),
});

const logRoute = createRoute({
  method: "get",
  path: "/v1/jobs/{id}/log",
  summary: "A job's output, both streams apart and with times",
  request: { params: IdParam, query: LogQuery },
  responses: {
    200: {
      description: "The log: a page of frames, all of it as text, or a stream",
      content: {
        "application/json": {
          schema: z.object({
            frames: z.array(LogFrameSchema),
            next: z.number().int().nullable().openapi({ description: "`after` of the next page" }),
          }),
        },
        "text/plain": { schema: z.string() },
        "text/event-stream": { schema: z.string() },
      },
    },
    ...refusals(400, 401, 404, 503),
  },
});

const artifactsRoute = createRoute({
  method: "get",
  path: "/v1/jobs/{id}/artifacts",
  summary: "What a job brought back",
  request: { params: IdParam },
  responses: {
    200: answer("Its artifacts", z.object({ artifacts: z.array(ArtifactSchema) })),
    ...refusals(400, 401, 404),
  },
});

export function logRoutes(web: Web): Api {
  const api = newApi();
  const { db } = web.fleet.store;

  // Which of the three answers is decided at run time, beyond what the route's types can say.
  api.openapi(logRoute, async (c): Promise<never> => (await answerLog(web, c)) as never);

  api.openapi(artifactsRoute, async (c) => {
    const job = await jobOrThrow(web, c.req.valid("param").id);
    const artifacts = (await listArtifacts(db, job.id)).map((one) => ({ ...one }));
    return c.json({ artifacts }, 200);
  });

  // A path of several parts, which the documentation's notation does not know.
  api.openAPIRegistry.registerPath({
    method: "get",
    path: "/v1/jobs/{id}/artifacts/{path}",
    summary: "An artifact's bytes",
    request: {
      params: IdParam.extend({ path: z.string().openapi({ description: "May hold `/`" }) }),
    },
    responses: {
      200: {
        description: "Always a download, never shown as a page",
        content: {
          "application/octet-stream": { schema: z.string().openapi({ format: "binary" }) },
        },
      },
      ...refusals(400, 401, 404),
    },
  });
  api.get("/v1/jobs/:id/artifacts/:path{.+}", (c) => sendArtifact(web, c));

  return api;
}

async function answerLog(web: Web, c: Context<Env>): Promise<Response> {
  const { db } = web.fleet.store;
  const query = LogQuery.parse(c.req.query());
  const job = await jobOrThrow(web, c.req.param("id") ?? "");
  if (query.follow === true) {
    const after = lastEventId(c) ?? query.after;
    return web.streams.respond(
      c.req.method,
      (topic) => topic === `job/${job.id}` || topic === `job/${logOf(job)}`,
      (watch, signal) => followFrames(db, job.id, after, watch, signal),
    );
  }
  if (query.format === "text" || (query.format === undefined && wantsText(c))) {
    return sendText(db, logOf(job), query.after, query.marks === true, c.req.method);
  }
  const { frames, isLast } = await readPage(db, logOf(job), query.after, query.limit);
  const next = isLast ? null : (frames.at(-1)?.seq ?? null);
  return c.json({ frames: frames.map(frameView), next });
}

async function readPage(
  db: Database,
  id: string,
  after: number,
  limit: number,
): Promise<{ frames: LogFrame[]; isLast: boolean }> {
  const page: LogFrame[] = [];
  let bytes = 0;
  for await (const frame of allFrames(db, id, after)) {
    if (page.length >= limit || bytes >= pageBytes) return { frames: page, isLast: false };
    page.push(frame);
    bytes += frame.bytes.length;
  }
  return { frames: page, isLast: true };
}

function wantsText(c: Context<Env>): boolean {
  const accept = c.req.header("accept") ?? "";
  return accept.includes("text/plain") && !accept.includes("application/json");
}

/** All there is and will be, then how the job ended. */
async function* followFrames(
  db: Database,
  id: string,
  after: number,
  watch: Watch,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent | null, void, undefined> {
  let seq = after;
  while (!signal.aborted) {
    // Its state first: what it wrote before it ended is then in the log.
    const job = await findJob(db, id);
    const frames = await readLog(db, job === null ? id : logOf(job), seq, framesAtOnce);
    for (const frame of frames) {
      seq = frame.seq;
      yield { event: "frame", id: String(seq), data: JSON.stringify(frameView(frame)) };
    }
    if (frames.length === framesAtOnce) continue;
    if (job === null || job.state === "ended") {
      const { outcome = null, exitCode = null } = job ?? {};
      yield { event: "end", data: JSON.stringify({ state: "ended", outcome, exitCode }) };
      return;
    }
    if (await watch.next(heartbeatMs, signal)) await pause(gatherMs, signal);
    else yield null;
  }
}

/** All frames of a log, a page at a time. */
async function* allFrames(db: Database, id: string, after: number): AsyncGenerator<LogFrame> {
  let seq = after;
  for (;;) {
    const frames = await readLog(db, id, seq, framesAtOnce);
    yield* frames;
    seq = frames.at(-1)?.seq ?? seq;
    if (frames.length < framesAtOnce) return;
  }
}

function sendText(
  db: Database,
  id: string,
  after: number,
  hasMarks: boolean,
  method: string,
): Response {
  const frames = allFrames(db, id, after);
  const chunks = hasMarks ? marked(frames) : bytesOf(frames);
  const body =
    method === "HEAD" ? null : Readable.toWeb(Readable.from(chunks, { objectMode: false }));
  return new Response(body as ReadableStream | null, {
    headers: {
      "content-type": "text/plain; charset=utf-8",
      "content-security-policy": "sandbox",
      "cache-control": "no-store",
    },
  });
}

async function* bytesOf(frames: AsyncGenerator<LogFrame>): AsyncGenerator<Uint8Array> {
  for await (const { bytes } of frames) yield bytes;
}

async function* marked(frames: AsyncGenerator<LogFrame>): AsyncGenerator<string> {
  const lines = new LineReader();
  for await (const frame of frames) for (const line of lines.push(frame)) yield markedLine(line);
  for (const line of lines.unfinished()) yield markedLine(line);
}

const shortNames = { stdout: "out", stderr: "err", mayfly: "---" } as const;

function markedLine({ at, stream, text }: LogLine): string {
  return `${new Date(at).toISOString()} ${shortNames[stream]} ${text}\n`;
}

async function sendArtifact(web: Web, c: Context<Env>): Promise<Response> {
  const job = await jobOrThrow(web, c.req.param("id") ?? "");
  const path = c.req.param("path") ?? "";
  const artifacts = await listArtifacts(web.fleet.store.db, job.id);
  const artifact = artifacts.find((one) => one.path === path);
  if (artifact === undefined) {
    throw new MayflyError(
      "not_found",
      `job ${job.id} has no artifact ${JSON.stringify(path.slice(0, 100))}`,
      {
        where: "path",
        hint: `GET /v1/jobs/${job.id}/artifacts lists them.`,
      },
    );
  }
  const isHead = c.req.method === "HEAD";
  const body = isHead ? null : Readable.toWeb(await web.fleet.native.openArtifact(job.id, path));
  return new Response(body as ReadableStream | null, {
    headers: {
      "content-type": "application/octet-stream",
      "content-disposition": disposition(path),
      "content-length": String(artifact.size),
      "content-security-policy": "sandbox",
      etag: `"${artifact.sha256}"`,
    },
  });
}

/** Its last part as the file's name: plainly for old clients, exactly by RFC 8187 for others. */
function disposition(path: string): string {
  const name = path.split("/").at(-1) ?? "artifact";
  const plain = name.replace(/[^A-Za-z0-9._-]/g, "_");
  const exact = encodeURIComponent(name).replace(
    /['()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16)}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${exact}`;
}
