import type { Context } from "hono";
import { deleteCookie, setCookie } from "hono/cookie";
import { html } from "hono/html";
import { MayflyError } from "../../domain/errors.ts";
import { cookieName } from "../access.ts";
import { readBody } from "../body.ts";
import { facts, type Env, type Web } from "../web.ts";
import type { Page } from "./layout.ts";

const formBytesMax = 10_000;

/** The token is typed once and exchanged for a cookie that no script can read. */
export function signInPage(web: Web, to: string, isWrong: boolean): Page {
  const content = web.access.hasToken
    ? html`<div class="lead narrow">
        <h1>Sign in</h1>
        <p>With this server's token. It lies in the file <code>token</code> of the state folder.</p>
        ${isWrong ? html`<p class="notice bad" role="alert">That is not the token.</p>` : ""}
        <form class="stack" method="post" action="/sign-in">
          <input type="hidden" name="to" value="${ownPath(to)}" />
          <label for="token">Token</label>
          <input
            id="token"
            name="token"
            type="password"
            autocomplete="current-password"
            required
            autofocus
          />
          <button>Sign in</button>
        </form>
      </div>`
    : html`<div class="lead narrow">
        <h1>Sign in</h1>
        <p>This server has no token, so it takes no changes, from nobody.</p>
      </div>`;
  return { title: "Sign in", section: null, live: null, content };
}

/** Answers a sign-in form; null: the token was wrong. */
export async function signIn(web: Web, c: Context<Env>): Promise<Response | { to: string }> {
  const form = await readForm(web, c);
  const to = ownPath(form.get("to") ?? "/");
  if (!web.access.isToken(form.get("token") ?? "")) return { to };
  const { value, maxAgeSeconds } = web.access.newSession();
  setCookie(c, cookieName, value, {
    path: "/",
    httpOnly: true,
    sameSite: "Strict",
    secure: c.req.header("x-forwarded-proto") === "https",
    maxAge: maxAgeSeconds,
  });
  return c.redirect(to, 303);
}

export async function signOut(web: Web, c: Context<Env>): Promise<Response> {
  await sessionForm(web, c);
  deleteCookie(c, cookieName, { path: "/" });
  return c.redirect("/", 303);
}

/**
 * The fields of a form that its session may send. Throws `unauthenticated` without a session, and
 * `forbidden` when the form is not one of ours.
 */
export async function sessionForm(web: Web, c: Context<Env>): Promise<URLSearchParams> {
  const session = web.access.session(facts(c));
  if (session === null) {
    throw new MayflyError("unauthenticated", "you are not signed in, or no longer", {
      hint: "Sign in, and try again.",
    });
  }
  const form = await readForm(web, c);
  if (!web.access.isFormToken(session, form.get("form") ?? "")) {
    throw new MayflyError("forbidden", "this form is not from this session", {
      hint: "Load the page again, and try once more.",
    });
  }
  return form;
}

async function readForm(web: Web, c: Context<Env>): Promise<URLSearchParams> {
  const bytes = await readBody(c.env.incoming, {
    maxBytes: formBytesMax,
    deadlineMs: web.limits.bodyMs,
    budget: web.bodies,
  });
  return new URLSearchParams(new TextDecoder().decode(bytes));
}

/** A path of this site and nothing else, wherever a link wanted to lead. */
export function ownPath(to: string): string {
  return /^\/(?![/\\])[\x21-\x7e]*$/.test(to) && !to.includes("\\") ? to : "/";
}
