import { Hono, type Context } from "hono";
import { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";
import { artifactBytesMax } from "../domain/native-work.ts";
import type { GuestDesk, GuestEnd } from "../fleet/api.ts";
import { silentLog, type Log } from "../fleet/log.ts";
import { batchBytesMax, encodePairs, parseFrames } from "../guest/wire.ts";
import { BodyBudget, readBody } from "./body.ts";
import { toProblem } from "./errors.ts";
import { refuseWhenDraining, type Env } from "./web.ts";

/** The longest a question is held; a guest asks again then. */
const waitSecondsMax = 30;
const formBytesMax = 16 * 1024;
/** Batches held in memory at once. Beyond, guests are told to come back, and keep theirs. */
const heldBytesMax = 64 * 1024 * 1024;
const bodyDeadlineMs = 30_000;

/**
 * What guests ask under `/v1/guest/`, in the words of docs/guest.md. Once `draining` aborts, those
 * who wait are told to come back: they find the next manager.
 */
export function guestRoutes(
  desk: GuestDesk,
  log: Log = silentLog,
  draining: AbortSignal = new AbortController().signal,
  artifactMax: number = artifactBytesMax,
): Hono<Env> {
  const app = new Hono<Env>();
  const budget = new BodyBudget(heldBytesMax);
  app.onError((error) => refusal(error, log));

  app.post("/v1/guest/redeem", async (c) => {
    const form = await readForm(c, budget);
    const proof = form.get("proof") ?? "";
    const { session, runner } = await desk.redeem(token(c), form.get("nonce") ?? "", proof);
    return pairs({ session, runner });
  });

  app.post("/v1/guest/work", async (c) => {
    const until = AbortSignal.any([c.req.raw.signal, draining]);
    const work = await desk.work(token(c), waitMs(c), until);
    if (work === null) refuseWhenDraining({ draining });
    if (work === null) return new Response(null, { status: 204 });
    return pairs({
      job: work.job,
      arg: work.command,
      env: Object.entries(work.environment).map(([name, value]) => `${name}=${value}`),
      timeout: String(work.timeoutSeconds),
      artifact: work.artifacts,
      source: work.hasSource ? "1" : [],
      file: (work.files ?? []).map(
        ({ path, mode, content }) => `${mode.toString(8)} ${path}\n${content}`,
      ),
      begins: work.startedText ?? [],
      root: work.artifactRoot ?? [],
      more: work.hasMore ? "1" : [],
    });
  });

  app.get("/v1/guest/source", async (c) => {
    const tree = await desk.source(token(c));
    return new Response(Readable.toWeb(tree) as ReadableStream, {
      headers: { "content-type": "application/x-tar" },
    });
  });

  app.post("/v1/guest/append", async (c) => {
    const session = token(c);
    const body = await read(c, budget, batchBytesMax);
    const hasStarted = c.req.query("started") === "1";
    return ordered(await desk.append(session, parseFrames(body), hasStarted));
  });

  app.post("/v1/guest/orders", async (c) => {
    const until = AbortSignal.any([c.req.raw.signal, draining]);
    const order = await desk.orders(token(c), waitMs(c), until);
    if (order.cancel === null) refuseWhenDraining({ draining });
    return ordered(order);
  });

  app.put("/v1/guest/artifact", async (c) => {
    // Before any of it is written.
    if (Number(c.req.header("content-length") ?? 0) > artifactMax) {
      throw new MayflyError("too_large", `an artifact has at most ${artifactMax} bytes`);
    }
    const { sha256, size } = await desk.keepArtifact(
      token(c),
      c.req.query("path") ?? "",
      c.env.incoming,
    );
    return pairs({ sha: sha256, size: String(size) });
  });

  app.post("/v1/guest/finish", async (c) => {
    const session = token(c);
    await desk.finish(session, readEnd(await readForm(c, budget)));
    return pairs({});
  });

  return app;
}

function token(c: Context<Env>): string {
  const [, given] = /^Bearer ([^\s]{1,300})$/i.exec(c.req.header("authorization") ?? "") ?? [];
  if (given !== undefined) return given;
  throw new MayflyError("unauthenticated", "a claim or a session is needed", {
    where: "authorization",
  });
}

function waitMs(c: Context<Env>): number {
  const seconds = Number(c.req.query("wait") ?? 0);
  if (!Number.isInteger(seconds) || seconds < 0) {
    throw new MayflyError("invalid", "it must be a whole number of seconds", { where: "wait" });
  }
  return Math.min(seconds, waitSecondsMax) * 1000;
}

function read(c: Context<Env>, budget: BodyBudget, maxBytes: number): Promise<Uint8Array> {
  return readBody(c.env.incoming, { maxBytes, deadlineMs: bodyDeadlineMs, budget });
}

async function readForm(c: Context<Env>, budget: BodyBudget): Promise<URLSearchParams> {
  return new URLSearchParams(Buffer.from(await read(c, budget, formBytesMax)).toString());
}

const ends = ["exited", "timed_out", "cancelled", "interrupted", "error"] as const;

function readEnd(form: URLSearchParams): GuestEnd {
  const how = ends.find((known) => known === form.get("how"));
  const exit = form.get("exit") ?? "";
  const exitCode = exit === "" ? null : Number(exit);
  const isStatus =
    exitCode === null || (Number.isInteger(exitCode) && exitCode >= 0 && exitCode <= 255);
  if (how === undefined || !isStatus || (how === "exited") !== (exitCode !== null)) {
    throw new MayflyError("invalid", "it says neither how the command ended nor its status", {
      where: how === undefined ? "how" : "exit",
    });
  }
  const detail = (form.get("detail") ?? "").replaceAll(/\p{Cc}+/gu, " ").trim();
  return { how, exitCode, detail: detail.slice(0, 1000) };
}

function ordered({ cancel }: { readonly cancel: string | null }): Response {
  return pairs({ cancel: cancel ?? [] });
}

function pairs(values: Readonly<Record<string, string | readonly string[]>>): Response {
  return new Response(encodePairs(values), { headers: { "content-type": "text/plain" } });
}

function refusal(error: unknown, log: Log): Response {
  const { status, code, detail } = toProblem(error, log);
  return new Response(encodePairs({ error: code, message: detail }), {
    status,
    headers: { "content-type": "text/plain" },
  });
}
