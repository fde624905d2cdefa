import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/*
 * Who may do what. Reading is open to whoever sits at this machine; everything else takes the
 * token: as a bearer in the API, or exchanged for a session cookie in a browser.
 */

/** The least length of a token that guards an address others can reach. */
export const tokenLengthMin = 16;
const sessionMs = 12 * 3600 * 1000;
export const cookieName = "mayfly_session";

export interface RequestFacts {
  readonly method: string;
  header(name: string): string | undefined;
  cookie(name: string): string | undefined;
}

export class Access {
  readonly #token: string | null;
  readonly #isExposed: boolean;
  readonly #now: () => number;
  readonly #key: Buffer;

  /** `isExposed`: others than this machine's users can connect. */
  constructor(token: string | null, isExposed: boolean, now: () => number) {
    this.#token = token;
    this.#isExposed = isExposed;
    this.#now = now;
    this.#key = createHmac("sha256", token ?? "")
      .update("mayfly session")
      .digest();
  }

  get hasToken(): boolean {
    return this.#token !== null;
  }

  /** Whether the request bears the token itself. */
  hasBearer(request: RequestFacts): boolean {
    const [, given] = /^Bearer ([^\s]+)\s*$/i.exec(request.header("authorization") ?? "") ?? [];
    return given !== undefined && this.isToken(given);
  }

  isToken(given: string): boolean {
    return this.#token !== null && sameSecret(given, this.#token);
  }

  mayRead(request: RequestFacts): boolean {
    return this.isLocal(request) || this.hasBearer(request) || this.session(request) !== null;
  }

  /**
   * A request that came from this machine and asked for it by a loopback name. Another name means
   * a page whose name was rebound to us, or a proxy that publishes us; a forwarding header, a proxy
   * that changed the name. Those prove themselves like anybody from afar.
   */
  isLocal(request: RequestFacts): boolean {
    if (this.#isExposed || !isLoopbackName(request.header("host"))) return false;
    return forwardingHeaders.every((name) => request.header(name) === undefined);
  }

  /** The value of a fresh session cookie, and its life in seconds. */
  newSession(): { readonly value: string; readonly maxAgeSeconds: number } {
    const expires = String(this.#now() + sessionMs);
    return {
      value: `${expires}.${this.#mac(`session ${expires}`)}`,
      maxAgeSeconds: sessionMs / 1000,
    };
  }

  /** The session of a request's cookie, when it is ours and has not expired. */
  session(request: RequestFacts): string | null {
    if (this.#token === null) return null;
    const value = request.cookie(cookieName);
    const [, expires, mac] = /^([0-9]{1,15})\.([a-f0-9]{64})$/.exec(value ?? "") ?? [];
    if (value === undefined || expires === undefined || mac === undefined) return null;
    if (!sameSecret(mac, this.#mac(`session ${expires}`))) return null;
    return Number(expires) > this.#now() ? value : null;
  }

  /** What a form of this session must carry: another site can neither read nor guess it. */
  formToken(session: string): string {
    return this.#mac(`form ${session}`);
  }

  isFormToken(session: string, given: string): boolean {
    return sameSecret(given, this.formToken(session));
  }

  #mac(text: string): string {
    return createHmac("sha256", this.#key).update(text).digest("hex");
  }
}

const forwardingHeaders = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

function isLoopbackName(host: string | undefined): boolean {
  const name = (host ?? "").toLowerCase().replace(/:[0-9]+$/, "");
  return name === "localhost" || name === "[::1]" || /^127(\.[0-9]{1,3}){3}$/.test(name);
}

/** Over digests, so that neither length nor first difference shows in the time it takes. */
function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

/**
 * Whether a browser sent this from another site's page (or another port's). Such a request is only
 * let in when it is a plain visit: it can then show a page, but not read or change anything.
 */
export function isForeign(request: RequestFacts): boolean {
  const site = request.header("sec-fetch-site");
  const isVisit = request.method === "GET" && request.header("sec-fetch-mode") === "navigate";
  if (site === "cross-site" || site === "same-site") return !isVisit;
  const origin = request.header("origin");
  if (origin === undefined || request.method === "GET" || request.method === "HEAD") return false;
  return !isOwnOrigin(origin, request.header("host"));
}

function isOwnOrigin(origin: string, host: string | undefined): boolean {
  return host !== undefined && (origin === `http://${host}` || origin === `https://${host}`);
}
