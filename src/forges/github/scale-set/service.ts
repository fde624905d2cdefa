import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { MayflyError } from "../../../domain/errors.ts";
import type { Address } from "../address.ts";
import type { Client } from "../client.ts";
import { boundedFetch, type Fetch } from "../fetch.ts";
import { explain, unreachable } from "../refusals.ts";
import { connection, serviceError } from "./shapes.ts";

export interface ServiceParts {
  readonly address: Address;
  readonly client: Client;
  readonly fetch: Fetch;
  readonly now: () => number;
}

export interface ServiceCall<T> {
  readonly what: string;
  readonly schema: z.ZodType<T>;
  readonly signal: AbortSignal;
  readonly body?: unknown;
  /** Instead of our own token: the queue's. */
  readonly bearer?: string;
}

/** A refusal by the service, whose kind is the name of an exception there. */
export class ServiceRefusal extends MayflyError {
  readonly kind: string;
  readonly status: number;

  constructor(error: MayflyError, status: number, kind: string) {
    super(error.code, error.message, error.hint === undefined ? {} : { hint: error.hint });
    this.kind = kind;
    this.status = status;
  }
}

const callLimitMs = 20_000;
/** The queue holds a question for 50 s. */
const holdLimitMs = 90_000;
/** A token that ends sooner is not used any more. */
const spareMs = 60_000;
/** A fresh registration token is not known everywhere at once. */
const signInPausesMs = [1_000, 2_000, 4_000];
const version = "6.0-preview";

/**
 * The Actions service behind scale sets: another host than the API's, found anew with each token by
 * a chain of three (an installation's or the configured token, a registration token, this one). Its
 * addresses may change with each and are never put together, only added to.
 */
export class ScaleSetService {
  readonly #parts: ServiceParts;
  readonly #fetch: Fetch;
  readonly #hold: Fetch;
  #session: { readonly url: string; readonly token: string; readonly endsAt: number } | null = null;
  #signingIn: Promise<void> | null = null;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
    this.#fetch = boundedFetch(parts.fetch, callLimitMs);
    this.#hold = boundedFetch(parts.fetch, holdLimitMs);
  }

  /** Calls `path` below the service's address. Throws `ServiceRefusal`, or `unavailable`. */
  async call<T>(method: string, path: string, call: ServiceCall<T>): Promise<T> {
    const { url, token } = await this.#signedIn(call.signal);
    const target = new URL(url);
    const [below = "", query = ""] = path.split("?");
    target.pathname = `${target.pathname.replace(/\/+$/, "")}/${below}`;
    for (const [name, value] of new URLSearchParams(query)) target.searchParams.set(name, value);
    target.searchParams.set("api-version", version);
    const headers = { "content-type": "application/json", ...this.#headers(call.bearer ?? token) };
    const body = call.body === undefined ? null : JSON.stringify(call.body);
    const answer = await this.#send(this.#fetch, target, { method, headers, body }, call);
    return this.#read(answer, call);
  }

  /** Asks the queue at its own address; null: nothing came while it held the question. */
  async queue<T>(
    method: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    call: ServiceCall<T> & { readonly bearer: string },
  ): Promise<T | null> {
    const accept = `application/json; api-version=${version}`;
    const all = { accept, ...this.#headers(call.bearer), ...headers };
    const answer = await this.#send(this.#hold, url, { method, headers: all, body: null }, call);
    // 202 says that nothing came; so does, at times, 200 with nothing in it.
    if (answer.status === 202 || answer.text === "") return null;
    return this.#read(answer, call);
  }

  #headers(token: string): Record<string, string> {
    const agent = { system: "mayfly", version: "0", commit_sha: "", scale_set_id: 0 };
    const userAgent = JSON.stringify({ ...agent, subsystem: "listener", kind: "scaleset" });
    return { authorization: `Bearer ${token}`, "user-agent": userAgent };
  }

  async #signedIn(signal: AbortSignal): Promise<{ url: string; token: string }> {
    const session = this.#session;
    if (session !== null && session.endsAt - this.#parts.now() > spareMs) return session;
    this.#signingIn ??= this.#signIn(signal).finally(() => (this.#signingIn = null));
    await this.#signingIn;
    if (this.#session === null) throw new MayflyError("unavailable", "not signed in");
    return this.#session;
  }

  async #signIn(signal: AbortSignal): Promise<void> {
    const { address, client } = this.#parts;
    const what = `signing in to the scale sets of ${address.told}`;
    const { token } = await client.ask(
      `POST ${address.path}/actions/runners/registration-token`,
      {},
      { what, schema: z.object({ token: z.string() }), signal },
    );
    const target = new URL(`${address.api}/actions/runner-registration`);
    const headers = { "content-type": "application/json", authorization: `RemoteAuth ${token}` };
    const body = JSON.stringify({ url: address.url, runner_event: "register" });
    for (const waitMs of [...signInPausesMs, null]) {
      const init = { method: "POST", headers, body };
      const answer = await this.#send(this.#fetch, target, init, { what, signal });
      const isEarly = answer.status === 401 || answer.status === 403;
      if (isEarly && waitMs !== null) {
        await pause(waitMs, undefined, { signal }).catch(() => {
          throw unreachable(what, address.host, "gave no answer in time");
        });
        continue;
      }
      const found = this.#read(answer, { what, schema: connection, signal });
      this.#session = { ...found, endsAt: endOf(found.token, this.#parts.now()) };
      return;
    }
  }

  async #send(
    fetch: Fetch,
    url: URL,
    init: { method: string; headers: Record<string, string>; body: string | null },
    { what, signal }: { what: string; signal: AbortSignal },
  ): Promise<{ status: number; text: string; requestId: string }> {
    try {
      const answer = await fetch(url, { ...init, signal });
      // Some answers begin with a byte-order mark; `text` takes it off.
      const text = (await answer.text()).replace(/^\uFEFF/, "");
      const requestId = answer.headers.get("x-github-request-id") ?? "";
      return { status: answer.status, text, requestId };
    } catch (error) {
      const isLate = error instanceof Error && /^(Abort|Timeout)Error$/.test(error.name);
      const why = isLate ? "gave no answer in time" : "does not answer";
      throw unreachable(what, url.host, why);
    }
  }

  #read<T>(
    { status, text, requestId }: { status: number; text: string; requestId: string },
    { what, schema }: Pick<ServiceCall<T>, "what" | "schema" | "signal">,
  ): T {
    const json = parsed(text);
    if (status < 200 || status > 299) {
      const said = serviceError.safeParse(json);
      const kind = said.success ? said.data.typeName : "";
      const words = said.success && said.data.message !== "" ? said.data.message : "";
      const id = requestId === "" ? "" : ` (request ${requestId})`;
      const error = explain(what, { status, message: `${words}${id}`, headers: {} });
      throw new ServiceRefusal(error, status, kind);
    }
    const read = schema.safeParse(json);
    if (read.success) return read.data;
    throw unreachable(what, this.#parts.address.host, "answers with something else");
  }
}

function parsed(text: string): unknown {
  try {
    return text === "" ? undefined : (JSON.parse(text) as unknown);
  } catch {
    return undefined;
  }
}

/** When a JWT says that it ends. It is ours to use, not to verify. */
function endOf(token: string, now: number): number {
  const claims = parsed(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
  const exp = (claims as { exp?: unknown } | undefined)?.exp;
  // Without a word on it, as good as for one call.
  return typeof exp === "number" ? exp * 1000 : now + spareMs;
}
