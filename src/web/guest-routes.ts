import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { MayflyError } from "../domain/errors.ts";
import { artifactBytesMax } from "../domain/native-work.ts";
import type { GuestDesk, GuestEnd } from "../fleet/api.ts";
import { silentLog, type Log } from "../fleet/log.ts";
import { batchBytesMax, encodePairs, parseFrames } from "../guest/wire.ts";
import { BodyBudget, readBody } from "./body.ts";
import { toProblem } from "./errors.ts";
import { refuseWhenDraining } from "./web.ts";

/** The longest a question is held; a guest asks again then. */
const waitSecondsMax = 30;
const formBytesMax = 16 * 1024;
/** Batches held in memory at once. Beyond, guests are told to come back, and keep theirs. */
const heldBytesMax = 64 * 1024 * 1024;
const bodyDeadlineMs = 30_000;
/** How long the rest of a body is taken in that nobody wants, so that its sender reads why. */
const restMs = 500;

/** Answers a guest; false: it is none that asks. */
type GuestRoutes = (incoming: IncomingMessage, outgoing: ServerResponse) => boolean;

interface Question {
  readonly incoming: IncomingMessage;
  readonly query: URLSearchParams;
  /** The claim or session. Throws `unauthenticated`. */
  readonly token: () => string;
  readonly form: () => Promise<URLSearchParams>;
  /** Aborts when the guest hangs up, or is to come back. */
  readonly until: () => AbortSignal;
}

/** Pairs, a tree, or nothing. */
type Answer = Readonly<Record<string, string | readonly string[]>> | Readable | null;

/**
 * What guests ask under `/v1/guest/`, in the words of docs/guest.md. Once `draining` aborts, those
 * who wait are told to come back: they find the next manager. Without a framework: `mayfly run` serves
 * one guest, and loading one took longer than that.
 */
export function guestRoutes(
  desk: GuestDesk,
  log: Log = silentLog,
  draining: AbortSignal = new AbortController().signal,
  artifactMax: number = artifactBytesMax,
): GuestRoutes {
  const budget = new BodyBudget(heldBytesMax);
  const read = (incoming: IncomingMessage, maxBytes: number): Promise<Uint8Array> =>
    readBody(incoming, { maxBytes, deadlineMs: bodyDeadlineMs, budget });
  const routes: Readonly<Record<string, (question: Question) => Promise<Answer>>> = {
    "POST redeem": async ({ token, form }) => {
      const given = await form();
      const [nonce, proof] = [given.get("nonce") ?? "", given.get("proof") ?? ""];
      const { session, runner } = await desk.redeem(token(), nonce, proof);
      return { session, runner };
    },
    "POST work": async ({ token, query, until }) => {
      const work = await desk.work(token(), waitMs(query), until());
      if (work === null) refuseWhenDraining({ draining });
      return work === null ? null : workPairs(work);
    },
    "GET source": ({ token }) => desk.source(token()),
    "POST append": async ({ token, query, incoming }) => {
      const session = token();
      const frames = parseFrames(await read(incoming, batchBytesMax));
      return ordered(await desk.append(session, frames, query.get("started") === "1"));
    },
    "POST orders": async ({ token, query, until }) => {
      const order = await desk.orders(token(), waitMs(query), until());
      if (order.cancel === null) refuseWhenDraining({ draining });
      return ordered(order);
    },
    "PUT artifact": async ({ token, query, incoming }) => {
      // Before any of it is written.
      if (Number(incoming.headers["content-length"] ?? 0) > artifactMax) {
        throw new MayflyError("too_large", `an artifact has at most ${artifactMax} bytes`);
      }
      const kept = await desk.keepArtifact(token(), query.get("path") ?? "", incoming);
      return { sha: kept.sha256, size: String(kept.size) };
    },
    "POST finish": async ({ token, form }) => {
      const session = token();
      await desk.finish(session, readEnd(await form()));
      return {};
    },
  };
  return (incoming, outgoing) => {
    const [, name, query] = /^\/v1\/guest\/([a-z]+)(?:\?(.*))?$/.exec(incoming.url ?? "") ?? [];
    const route = routes[`${incoming.method} ${name}`];
    if (route === undefined) return false;
    const question: Question = {
      incoming,
      query: new URLSearchParams(query),
      token: () => tokenOf(incoming),
      form: async () =>
        new URLSearchParams(Buffer.from(await read(incoming, formBytesMax)).toString()),
      until: () => {
        const gone = new AbortController();
        outgoing.once("close", () => gone.abort());
        return AbortSignal.any([gone.signal, draining]);
      },
    };
    route(question)
      .then((answer) => send(outgoing, answer))
      .catch((error: unknown) => refuse(incoming, outgoing, toProblem(error, log)));
    return true;
  };
}

async function send(outgoing: ServerResponse, answer: Answer): Promise<void> {
  if (answer === null) {
    outgoing.writeHead(204).end();
  } else if (answer instanceof Readable) {
    outgoing.writeHead(200, { "content-type": "application/x-tar" });
    await pipeline(answer, outgoing).catch(() => outgoing.destroy());
  } else {
    sendPairs(outgoing, 200, answer);
  }
}

function refuse(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { status, code, detail }: ReturnType<typeof toProblem>,
): void {
  sendPairs(outgoing, status, { error: code, message: detail });
  if (incoming.complete) return;
  incoming.resume();
  setTimeout(() => incoming.complete || incoming.destroy(), restMs).unref();
}

function sendPairs(
  outgoing: ServerResponse,
  status: number,
  pairs: Parameters<typeof encodePairs>[0],
): void {
  const text = encodePairs(pairs);
  const length = Buffer.byteLength(text);
  outgoing.writeHead(status, { "content-type": "text/plain", "content-length": length }).end(text);
}

function workPairs(work: NonNullable<Awaited<ReturnType<GuestDesk["work"]>>>) {
  return {
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
  };
}

function tokenOf({ headers }: IncomingMessage): string {
  const [, given] = /^Bearer ([^\s]{1,300})$/i.exec(headers.authorization ?? "") ?? [];
  if (given !== undefined) return given;
  throw new MayflyError("unauthenticated", "a claim or a session is needed", {
    where: "authorization",
  });
}

function waitMs(query: URLSearchParams): number {
  const seconds = Number(query.get("wait") ?? 0);
  if (!Number.isInteger(seconds) || seconds < 0) {
    throw new MayflyError("invalid", "it must be a whole number of seconds", { where: "wait" });
  }
  return Math.min(seconds, waitSecondsMax) * 1000;
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

function ordered({ cancel }: { readonly cancel: string | null }): Answer {
  return { cancel: cancel ?? [] };
}
