import type { MiddlewareHandler } from "hono";
import { MayflyError } from "../domain/errors.ts";
import { isForeign } from "./access.ts";
import { facts, type Env, type Web } from "./web.ts";

/** No script, style or picture but our own, nothing inline, and nobody's frame. */
const contentPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

const headers: Readonly<Record<string, string>> = {
  "content-security-policy": contentPolicy,
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  "cache-control": "no-store",
};

/** A route's own header wins. */
export const securityHeaders: MiddlewareHandler<Env> = async (c, next) => {
  await next();
  for (const [name, value] of Object.entries(headers)) {
    if (!c.res.headers.has(name)) c.res.headers.set(name, value);
  }
};

const openPaths = ["/healthz", "/readyz", "/sign-in"];

/**
 * Who may pass: reading to whoever may read, changes through the API to the bearer of the token.
 * Changes by a page's form are checked by that form's route, which knows its session.
 */
export function guard({ access }: Web): MiddlewareHandler<Env> {
  return async (c, next) => {
    const request = facts(c);
    const { path } = c.req;
    if (isForeign(request)) {
      throw new MayflyError("forbidden", "this was sent from another site's page", {
        hint: "Open the dashboard itself, or send it from a program.",
      });
    }
    if (openPaths.includes(path) || path.startsWith("/assets/")) return next();
    const isReading = c.req.method === "GET" || c.req.method === "HEAD";
    if (isReading || !path.startsWith("/v1/")) {
      if (access.mayRead(request)) return next();
      if (isReading && isPage(path) && access.hasToken) {
        return c.redirect(`/sign-in?to=${encodeURIComponent(pathAndQuery(c.req.url))}`, 303);
      }
      throw unauthenticated(access.hasToken);
    }
    if (!access.hasBearer(request)) throw unauthenticated(access.hasToken);
    return next();
  };
}

export function isPage(path: string): boolean {
  return !path.startsWith("/v1/") && path !== "/metrics" && !openPaths.slice(0, 2).includes(path);
}

function pathAndQuery(url: string): string {
  const { pathname, search } = new URL(url);
  return pathname + search;
}

function unauthenticated(hasToken: boolean): MayflyError {
  if (!hasToken) {
    return new MayflyError("forbidden", "this server has no token, so it takes no changes", {
      hint: "Give it one in its configuration, and start it again.",
    });
  }
  return new MayflyError("unauthenticated", "the token is missing or wrong", {
    where: "authorization",
    hint: "Send `Authorization: Bearer TOKEN` with the server's token.",
  });
}
