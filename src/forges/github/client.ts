import { createAppAuth } from "@octokit/auth-app";
import { Octokit } from "@octokit/core";
import type { z } from "zod";
import { MayflyError } from "../../domain/errors.ts";
import { BoundedMap } from "../bounded-map.ts";
import type { Address } from "./address.ts";
import { boundedFetch, silence, type Fetch } from "./fetch.ts";
import { Quota, type Headers } from "./quota.ts";
import { explain, isLimit, unreachable } from "./refusals.ts";

/** Who we are to GitHub: an App, at the installation that holds the address, or a token. */
export type Credential =
  | { readonly kind: "token"; readonly token: string }
  | {
      readonly kind: "app";
      readonly app: string;
      readonly key: string;
      /** Null: looked up. */
      readonly installation: number | null;
    };

export interface ClientParts {
  readonly address: Address;
  readonly credential: Credential;
  readonly fetch: Fetch;
  readonly now: () => number;
  /** When the token ends (ms), each time GitHub says so. */
  readonly expires: (at: number) => void;
}

export interface Question<T> {
  /** What is tried, for errors: `listing runners`. */
  readonly what: string;
  readonly schema: z.ZodType<T>;
  readonly signal: AbortSignal;
  /** Ask whether it has changed since: GitHub does not count such a question if it has not. */
  readonly isKept?: boolean;
  /** As the App itself instead of its installation. */
  readonly asApp?: boolean;
}

type Parameters = Readonly<Record<string, unknown>>;

/** One call's longest time, whoever asked; GitHub itself gives up after ten seconds. */
const callLimitMs = 20_000;
const keptMax = 5_000;
/** The version of the API that the shapes here are of; servers from 3.9 on know it. */
const apiVersion = "2022-11-28";

/**
 * GitHub's REST API by octokit's core and App authentication. It never waits for a quota and never
 * tries again: whoever asks has rounds of its own. (octokit's plugins for those wait, for a minute
 * or an hour, on a clock of their own, and hold every writing call of the process a second apart.)
 */
export class Client {
  /** What the forge's own questions are counted on. */
  readonly quota: Quota;
  /** What is asked as the App itself is counted apart. */
  readonly #appQuota: Quota;
  readonly #parts: ClientParts;
  readonly #kept = new BoundedMap<string, { etag: string; value: unknown }>(keptMax);
  readonly #app: Octokit | null;
  #octokit: Promise<Octokit> | null = null;

  constructor(parts: ClientParts) {
    this.#parts = parts;
    this.quota = new Quota(parts.now);
    this.#appQuota = new Quota(parts.now);
    const { credential } = parts;
    this.#app =
      credential.kind === "app"
        ? new Octokit({
            ...this.#settings(),
            authStrategy: createAppAuth,
            auth: { appId: credential.app, privateKey: credential.key },
          })
        : null;
  }

  /**
   * Asks, and reads what of the answer is needed. `route` as octokit writes it: `GET /orgs/{org}`.
   * Throws `MayflyError` for everything: a refusal, no answer, an answer that is not one.
   */
  async ask<T>(route: string, parameters: Parameters, question: Question<T>): Promise<T> {
    const { what, schema, isKept = false, asApp = false, signal } = question;
    (asApp ? this.#appQuota : this.quota).check(route);
    const octokit = asApp ? this.#asApp() : await this.#asInstallation(signal);
    const key = `${route} ${JSON.stringify(parameters)}`;
    const kept = isKept ? this.#kept.get(key) : undefined;
    const answer = await this.#send(octokit, route, {
      parameters,
      what,
      signal,
      etag: kept?.etag,
    });
    if (answer === null) {
      // Used just now: what was not is forgotten first.
      if (kept !== undefined) this.#kept.set(key, kept);
      return kept?.value as T;
    }
    const read = schema.safeParse(answer.data);
    if (!read.success) {
      const issue = read.error.issues[0];
      const at = issue === undefined ? "" : ` (${issue.path.join(".")}: ${issue.message})`;
      throw unreachable(what, this.#parts.address.host, `answers with something else${at}`);
    }
    const etag = answer.headers["etag"];
    if (isKept && typeof etag === "string") this.#kept.set(key, { etag, value: read.data });
    return read.data;
  }

  /** All of a list that comes in pages of 100, at most `pagesMax` of them. */
  async pages<P, T>(
    route: string,
    parameters: Parameters,
    question: Question<P>,
    items: (page: P) => readonly T[],
    pagesMax: number,
  ): Promise<T[]> {
    const all: T[] = [];
    for (let page = 1; page <= pagesMax; page++) {
      const more = items(await this.ask(route, { ...parameters, per_page: 100, page }, question));
      all.push(...more);
      if (more.length < 100) break;
    }
    return all;
  }

  /** An installation's token or the configured one, for services beside the REST API. */
  async token(signal: AbortSignal): Promise<string> {
    const { credential } = this.#parts;
    if (credential.kind === "token") return credential.token;
    const octokit = await this.#asInstallation(signal);
    const what = "asking for an installation's token";
    const auth = await this.#guarded({ route: "", what, signal, quota: this.quota }, async () => {
      return (await octokit.auth({ type: "installation" })) as { token: string };
    });
    return auth.token;
  }

  get isApp(): boolean {
    return this.#app !== null;
  }

  #settings(): ConstructorParameters<typeof Octokit>[0] {
    const { address, fetch } = this.#parts;
    return {
      baseUrl: address.api,
      userAgent: "mayfly",
      log: silence,
      request: { fetch: boundedFetch(fetch, callLimitMs), log: silence },
    };
  }

  #asApp(): Octokit {
    if (this.#app !== null) return this.#app;
    throw new MayflyError("invalid", "only a GitHub App can ask this", { where: "app" });
  }

  #asInstallation(signal: AbortSignal): Promise<Octokit> {
    this.#octokit ??= this.#signIn(signal).catch((error: unknown) => {
      this.#octokit = null;
      throw error;
    });
    return this.#octokit;
  }

  async #signIn(signal: AbortSignal): Promise<Octokit> {
    const { credential, address } = this.#parts;
    if (credential.kind === "token") {
      return new Octokit({ ...this.#settings(), auth: credential.token });
    }
    const installation = credential.installation ?? (await this.#findInstallation(signal));
    return new Octokit({
      ...this.#settings(),
      baseUrl: address.api,
      authStrategy: createAppAuth,
      auth: { appId: credential.app, privateKey: credential.key, installationId: installation },
    });
  }

  async #findInstallation(signal: AbortSignal): Promise<number> {
    const { address } = this.#parts;
    const what = `finding the App's installation for ${address.told}`;
    // The path itself and no template: by it octokit knows that the App has to ask.
    const route = `GET ${address.path}/installation`;
    const answer = await this.#send(this.#asApp(), route, {
      parameters: {},
      what,
      signal,
      etag: undefined,
    });
    const id = (answer?.data as { id?: unknown } | undefined)?.id;
    if (typeof id === "number") return id;
    throw unreachable(what, address.host, "answers with something else");
  }

  /** Null: not changed since `etag`. */
  async #send(
    octokit: Octokit,
    route: string,
    call: { parameters: Parameters; what: string; signal: AbortSignal; etag: string | undefined },
  ): Promise<{ data: unknown; headers: Headers } | null> {
    const { parameters, what, signal, etag } = call;
    const headers = {
      accept: "application/vnd.github+json",
      "x-github-api-version": apiVersion,
      ...(etag === undefined ? {} : { "if-none-match": etag }),
    };
    const quota = octokit === this.#app ? this.#appQuota : this.quota;
    return this.#guarded({ route, what, signal, quota }, async () => {
      try {
        const answer = await octokit.request(route, {
          ...parameters,
          headers,
          request: { signal },
        });
        return { data: answer.data as unknown, headers: this.#learn(quota, route, answer.headers) };
      } catch (error) {
        if (!isAnswer(error) || error.status !== 304 || etag === undefined) throw error;
        this.#learn(quota, route, error.response.headers);
        return null;
      }
    });
  }

  /** Runs a call for as long as `signal` lets it, and makes every failure one of ours. */
  async #guarded<T>({ route, what, signal, quota }: Guarded, call: () => Promise<T>): Promise<T> {
    const { host } = this.#parts.address;
    const over = Promise.withResolvers<never>();
    const stop = (): void => over.reject(unreachable(what, host, "gave no answer in time"));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    try {
      return await Promise.race([over.promise, call()]);
    } catch (error) {
      if (error instanceof MayflyError) throw error;
      if (!isAnswer(error)) throw unreachable(what, host, `does not answer (${reason(error)})`);
      const { status, message, response } = error;
      // Its token is revoked, or the installation is another by now: both are looked for again.
      if (status === 401 || response.url?.includes("/access_tokens")) this.#octokit = null;
      const refused = { status, message, headers: this.#learn(quota, route, response.headers) };
      if (isLimit(refused)) {
        quota.limited(refused.headers);
        quota.check(route);
      }
      throw explain(what, refused);
    } finally {
      signal.removeEventListener("abort", stop);
      over.promise.catch(() => {});
    }
  }

  #learn(quota: Quota, route: string, headers: Headers): Headers {
    quota.learn(route, headers);
    // "2026-12-01 12:00:00 UTC", or with an offset such as -0800.
    const at = Date.parse(String(headers["github-authentication-token-expiration"] ?? ""));
    if (Number.isFinite(at)) this.#parts.expires(at);
    return headers;
  }
}

interface Guarded {
  readonly route: string;
  readonly what: string;
  readonly signal: AbortSignal;
  readonly quota: Quota;
}

interface Answer extends Error {
  readonly status: number;
  readonly response: { readonly headers: Headers; readonly url?: string };
}

/** octokit gives status 500 to what never was answered; only an answer has a response. */
function isAnswer(error: unknown): error is Answer {
  return error instanceof Error && "status" in error && "response" in error && !!error.response;
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  if (error.name === "TimeoutError" || error.name === "AbortError") return "in time";
  const { cause } = error;
  const code = (cause as { code?: unknown } | undefined)?.code;
  const inner = (cause as { cause?: { code?: unknown } } | undefined)?.cause?.code;
  const known = [inner, code].find((each) => typeof each === "string");
  return typeof known === "string" ? known : error.message;
}
