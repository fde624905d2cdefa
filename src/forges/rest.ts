import type { z } from "zod";
import { MayflyError, type ErrorCode } from "../domain/errors.ts";

/** Where a server of the Gitea family is, and who we are there. */
export interface RestOptions {
  /** The forge's name in the configuration, for messages. */
  readonly name: string;
  /** Without a slash at the end: `https://git.example.com`, or with a path below it. */
  readonly url: string;
  readonly token: string;
}

export interface RestAnswer {
  readonly status: number;
  readonly body: unknown;
}

interface Call {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** Below the server's address; its parts are already encoded. */
  readonly path: string;
  readonly send?: object;
  /** Statuses that are an answer here, besides those of success. */
  readonly expect?: readonly number[];
  /** Without our token: for calls that bear a credential of their own. */
  readonly anonymous?: true;
}

const callMs = 30_000;
const bodyBytesMax = 16 * 1024 * 1024;

/**
 * Asks a Gitea or Forgejo server: JSON both ways, a deadline and a bound for every answer, no
 * redirects (a token would follow them). Failures are `MayflyError`s that say what to do; none
 * repeats what was sent.
 */
export class Rest {
  readonly #options: RestOptions;

  constructor(options: RestOptions) {
    this.#options = options;
  }

  /** What is not of `schema` is `unavailable`: the server, or something before it, is not well. */
  async get<T>(path: string, schema: z.ZodType<T>, signal: AbortSignal): Promise<T> {
    const { body } = await this.call({ method: "GET", path }, signal);
    return this.parse(path, body, schema);
  }

  /** As `get`, and null where the server knows no such thing, or has it under another name by now. */
  async find<T>(path: string, schema: z.ZodType<T>, signal: AbortSignal): Promise<T | null> {
    const expect = [301, 302, 307, 308, 404];
    const { status, body } = await this.call({ method: "GET", path, expect }, signal);
    return expect.includes(status) ? null : this.parse(path, body, schema);
  }

  parse<T>(path: string, body: unknown, schema: z.ZodType<T>): T {
    const parsed = schema.safeParse(body);
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    const field = issue === undefined ? "" : issue.path.join(".");
    throw this.#failure("unavailable", `${short(path)} answered something else than expected`, {
      ...(field === "" ? {} : { where: field }),
      hint: "Is this the address of the server itself, and is its version one that the manual names?",
    });
  }

  async call(call: Call, signal: AbortSignal): Promise<RestAnswer> {
    const response = await this.#send(call, signal);
    const { status } = response;
    const text = await this.#read(response, call.path);
    if (status >= 200 && status < 300) return { status, body: this.#json(text, call.path) };
    if (call.expect?.includes(status) === true) return { status, body: null };
    throw this.#refusal(status, text, call.path);
  }

  async #send(call: Call, signal: AbortSignal): Promise<Response> {
    const { url, token } = this.#options;
    const headers: Record<string, string> = { accept: "application/json" };
    if (call.anonymous === undefined) headers["authorization"] = `token ${token}`;
    if (call.send !== undefined) headers["content-type"] = "application/json";
    const within = AbortSignal.any([signal, AbortSignal.timeout(callMs)]);
    const ask = (): Promise<Response> =>
      fetch(`${url}${call.path}`, {
        method: call.method,
        headers,
        redirect: "manual",
        signal: within,
        ...(call.send === undefined ? {} : { body: JSON.stringify(call.send) }),
      });
    try {
      return await ask().catch((error) => {
        // A server that was started anew has closed the connections that were kept open.
        if (call.method !== "GET" || !isBroken(error)) throw error;
        return ask();
      });
    } catch (error) {
      throw this.#failure("unavailable", `it did not answer: ${causeOf(error)}`, {
        hint: `Is ${url} right, and reachable from here?`,
      });
    }
  }

  async #read(response: Response, path: string): Promise<string> {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    try {
      for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        bytes += chunk.length;
        if (bytes > bodyBytesMax) break;
        chunks.push(chunk);
      }
    } catch (error) {
      throw this.#failure("unavailable", `its answer broke off: ${causeOf(error)}`);
    }
    if (bytes <= bodyBytesMax) return Buffer.concat(chunks).toString("utf8");
    throw this.#failure("unavailable", `${short(path)} answered more than ${bodyBytesMax} bytes`);
  }

  #json(text: string, path: string): unknown {
    if (text === "") return null;
    try {
      return JSON.parse(text) as unknown;
    } catch {
      throw this.#failure("unavailable", `${short(path)} answered what is no JSON`, {
        hint: "Something before the server may have answered, such as a proxy's error page.",
      });
    }
  }

  #refusal(status: number, text: string, path: string): MayflyError {
    const told = this.#told(text);
    const said = told === "" ? "" : `: ${told}`;
    const [code, hint] = meaningOf(status);
    return this.#failure(code, `${short(path)} answered ${status}${said}`, { hint });
  }

  /** The server's own sentence, unless it repeats a secret. */
  #told(text: string): string {
    let message = "";
    try {
      const body = JSON.parse(text) as { message?: unknown } | null;
      if (typeof body?.message === "string") message = body.message;
    } catch {
      return "";
    }
    const line = message.replaceAll(/\s+/g, " ").slice(0, 200);
    return line.includes(this.#options.token) ? "" : line;
  }

  #failure(
    code: ErrorCode,
    message: string,
    more: { where?: string; hint?: string } = {},
  ): MayflyError {
    return new MayflyError(code, `forge ${this.#options.name}: ${message}`, more);
  }
}

function meaningOf(status: number): readonly [ErrorCode, string] {
  if (status >= 300 && status < 400) {
    return ["invalid", "It redirects; write the address that it redirects to into `url`."];
  }
  switch (status) {
    case 401:
      return ["unauthenticated", "The token is unknown or has been revoked; make a new one."];
    case 403:
      return ["forbidden", "The token lacks a scope, or its user a right: the manual lists them."];
    case 404:
      return [
        "not_found",
        "Is `scope` right, are Actions enabled there, and may the token's user see it?",
      ];
    case 429:
      return [
        "too_many",
        "The server, or a proxy before it, limits calls; it is asked again later.",
      ];
    default:
      return status >= 500
        ? ["unavailable", "The server failed; its own log says why. It is asked again."]
        : ["invalid", "The server's version may differ from those that the manual names."];
  }
}

/** A path as a person would name it: without what was asked of it. */
function short(path: string): string {
  return path.split("?")[0] ?? path;
}

function isBroken(error: unknown): boolean {
  const { cause } = error as { cause?: { code?: unknown } };
  return cause?.code === "UND_ERR_SOCKET" || cause?.code === "ECONNRESET";
}

/** Node says `fetch failed`, and only in the cause what failed. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return "for a reason unknown";
  if (error.name === "TimeoutError" || error.name === "AbortError") return "it took too long";
  const { cause } = error as { cause?: { code?: unknown } };
  return typeof cause?.code === "string" ? cause.code : error.message.slice(0, 200);
}
