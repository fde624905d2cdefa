import { readFileSync } from "node:fs";
import { MayflyError, type ErrorCode } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";
import { defaultStateFolder, tokenFile } from "./places.ts";
import { serverEvents, type ServerEvent } from "./sse.ts";

export const defaultServer = "http://127.0.0.1:8420";

export interface ClientOptions {
  readonly server?: string;
  readonly state?: string;
}

interface Token {
  readonly value: string;
  /** What a person would call the place it is from. */
  readonly from: string;
}

/** An answer must begin within this; streams and uploads may then go on. */
const answerMs = 30_000;

/** Asks a running Mayfly by its API. Failures are `MayflyError`s. */
export class Client {
  readonly server: URL;
  readonly #token: Token | null;

  constructor(options: ClientOptions, environment: NodeJS.ProcessEnv) {
    const named = options.server ?? environment["MAYFLY_SERVER"];
    this.server = serverUrl(named === undefined || named === "" ? defaultServer : named);
    this.#token = findToken(this.server, options.state, environment);
  }

  async get<T>(path: string): Promise<T> {
    return this.#json(await this.#ask("GET", path, {}));
  }

  async post<T>(path: string, body: unknown): Promise<T> {
    const headers = { "content-type": "application/json" };
    return this.#json(await this.#ask("POST", path, { headers, body: JSON.stringify(body) }));
  }

  /** Sends a stream; when it fails, so does the request, and the server keeps nothing. */
  async upload<T>(path: string, type: string, body: ReadableStream<Uint8Array>): Promise<T> {
    const headers = { "content-type": type };
    return this.#json(await this.#ask("POST", path, { headers, body, duplex: "half" }, null));
  }

  async download(path: string): Promise<AsyncIterable<Uint8Array>> {
    const { body } = await this.#ask("GET", path, {});
    return body ?? new ReadableStream<Uint8Array>();
  }

  /** The events after `lastId` until the server ends the stream. */
  async events(
    path: string,
    lastId: string | null,
    signal: AbortSignal,
  ): Promise<AsyncGenerator<ServerEvent>> {
    const headers = {
      accept: "text/event-stream",
      ...(lastId === null ? {} : { "last-event-id": lastId }),
    };
    const { body } = await this.#ask("GET", path, { headers, signal });
    return serverEvents(body ?? new ReadableStream<Uint8Array>());
  }

  async #ask(
    method: string,
    path: string,
    more: RequestInit & { duplex?: "half" },
    deadlineMs: number | null = answerMs,
  ): Promise<Response> {
    const headers = new Headers(more.headers);
    if (this.#token !== null) headers.set("authorization", `Bearer ${this.#token.value}`);
    const late = new AbortController();
    const timer = deadlineMs === null ? undefined : setTimeout(() => late.abort(), deadlineMs);
    const signals = [late.signal, more.signal ?? []].flat();
    let answer: Response;
    try {
      answer = await fetch(new URL(`.${path}`, this.server), {
        ...more,
        method,
        headers,
        // The token is for this server, not for one that it points to.
        redirect: "error",
        signal: AbortSignal.any(signals),
      });
    } catch (error) {
      if (more.signal?.aborted === true) throw error;
      throw this.#noAnswer(error, late.signal.aborted);
    } finally {
      clearTimeout(timer);
    }
    if (!answer.ok) throw await this.#refusal(answer);
    return answer;
  }

  #noAnswer(error: unknown, isLate: boolean): MayflyError {
    const cause = (error as Error).cause ?? error;
    if (cause instanceof MayflyError) return cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    const at = `Mayfly at ${this.server.origin}`;
    if (isLate)
      return new MayflyError("unavailable", `${at} gave no answer in ${answerMs / 1000} s`);
    if (code === "ECONNREFUSED") {
      return new MayflyError("unavailable", `no ${at}: nothing listens there`, {
        hint: "Start one with `mayfly up`, or name another with --server or MAYFLY_SERVER.",
      });
    }
    return new MayflyError("unavailable", `${at} cannot be reached: ${message}`, {
      hint: "Check the address in --server or MAYFLY_SERVER.",
    });
  }

  async #refusal(answer: Response): Promise<MayflyError> {
    const problem = await problemOf(answer);
    if (problem === null) return this.#stranger(answer);
    const { code, detail, where, hint } = problem;
    return new MayflyError(code === "internal" ? "unavailable" : code, detail, {
      ...(where === undefined ? {} : { where }),
      ...(code === "unauthenticated"
        ? { hint: this.#tokenHint() }
        : hint === undefined
          ? {}
          : { hint }),
    });
  }

  async #json<T>(answer: Response): Promise<T> {
    try {
      return (await answer.json()) as T;
    } catch {
      throw this.#stranger(answer);
    }
  }

  #stranger({ status }: Response): MayflyError {
    return new MayflyError(
      "unavailable",
      `what answers at ${this.server.origin} is not Mayfly (HTTP ${status})`,
      { hint: "Check the address in --server or MAYFLY_SERVER." },
    );
  }

  #tokenHint(): string {
    const how = "Set MAYFLY_TOKEN, or name the server's state folder with --state";
    if (this.#token !== null)
      return `The token of ${this.#token.from} is not this server's. ${how}.`;
    if (isLoopback(this.server)) return `No token was found on this machine. ${how}.`;
    return "Set MAYFLY_TOKEN to the server's token: the file `token` in its state folder.";
  }
}

interface Problem {
  readonly code: ErrorCode | "internal";
  readonly detail: string;
  readonly where?: string;
  readonly hint?: string;
}

async function problemOf(answer: Response): Promise<Problem | null> {
  if (!(answer.headers.get("content-type") ?? "").includes("json")) return null;
  try {
    const problem = (await answer.json()) as Partial<Problem>;
    return typeof problem.code === "string" && typeof problem.detail === "string"
      ? (problem as Problem)
      : null;
  } catch {
    return null;
  }
}

function serverUrl(text: string): URL {
  const full = /^[a-z]+:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(full) ? new URL(full) : null;
  if (url !== null && /^https?:$/.test(url.protocol) && url.username === "") {
    return new URL(url.pathname.endsWith("/") ? url : `${url.href}/`);
  }
  throw new MayflyError("invalid", `${quote(text)} is no server's address`, {
    where: "--server",
    hint: `Write it like ${defaultServer}.`,
  });
}

/** A token found in a local state folder is only ever shown to this machine. */
function findToken(
  server: URL,
  state: string | undefined,
  environment: NodeJS.ProcessEnv,
): Token | null {
  const given = environment["MAYFLY_TOKEN"];
  if (given !== undefined && given !== "") return { value: given, from: "MAYFLY_TOKEN" };
  if (!isLoopback(server)) return null;
  const file = tokenFile(state ?? defaultStateFolder(environment));
  try {
    return { value: readFileSync(file, "utf8").trim(), from: file };
  } catch {
    return null;
  }
}

function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}
