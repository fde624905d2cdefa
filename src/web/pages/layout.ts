import { html } from "hono/html";
import type { Context } from "hono";
import { icon, script, style } from "../assets.ts";
import { exactTime } from "../words.ts";
import { facts, type Env, type Web } from "../web.ts";
import type { Html } from "./parts.ts";

export interface Page {
  readonly title: string;
  /** The address of the part of the site it belongs to, marked in the navigation. */
  readonly section: string | null;
  /** Which changes concern it (`all`, or a topic of the store); null: it never changes. */
  readonly live: string | null;
  readonly content: Html;
}

const sections = [
  ["/", "Overview"],
  ["/jobs", "Jobs"],
  ["/machines", "Machines"],
  ["/pools", "Pools"],
  ["/health", "Health"],
] as const;

/** The frame around every page. */
export async function render(web: Web, c: Context<Env>, page: Page): Promise<string> {
  const request = facts(c);
  const session = web.access.session(request);
  const text = await html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${page.title} · Mayfly</title>
        <link rel="icon" href="${icon.path}" type="image/svg+xml" />
        <link rel="stylesheet" href="${style.path}" />
        <script type="module" src="${script.path}"></script>
      </head>
      <body ${page.live === null ? "" : html`data-live="${page.live}"`}>
        <a class="skip" href="#main">Skip to the content</a>
        <header class="top">
          <a class="brand" href="/">${mark()}<span>mayfly</span></a>
          <nav aria-label="Sections">
            ${sections.map(
              ([href, name]) =>
                html`<a href="${href}" ${href === page.section ? html`aria-current="page"` : ""}
                  >${name}</a
                >`,
            )}
          </nav>
          <form class="find" action="/find" role="search">
            <label class="unseen" for="find">Find a job or machine by its id</label>
            <input
              id="find"
              type="search"
              name="id"
              placeholder="Job or machine id"
              autocomplete="off"
              spellcheck="false"
              maxlength="300"
            />
          </form>
        </header>
        <main id="main" tabindex="-1">${page.content}</main>
        <footer class="bottom">
          <span>Mayfly ${web.version}</span>
          <span class="as-of"
            >as of
            <time datetime="${new Date(web.now()).toISOString()}"
              >${exactTime(web.now())}</time
            ></span
          >
          <span id="live-state" class="live-state" role="status" hidden></span>
          <a href="/v1/openapi.json">API</a>
          ${signing(web, session)}
        </footer>
      </body>
    </html>`;
  return text.toString();
}

function signing(web: Web, session: string | null): Html {
  if (session !== null) {
    return html`<form class="plain" method="post" action="/sign-out">
      <input type="hidden" name="form" value="${web.access.formToken(session)}" />
      <button class="link">Sign out</button>
    </form>`;
  }
  return web.access.hasToken ? html`<a href="/sign-in">Sign in</a>` : html``;
}

/** Two wings, a body and its long tails. */
export function mark(): Html {
  return html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    <path class="wing" d="M15 15C9 12 5 7 4 3c6 1 11 5 12 11z" />
    <path class="wing" d="M17 15c6-3 10-8 11-12-6 1-11 5-12 11z" />
    <path class="wing small" d="M15 17c-4 0-7 1-9 4 4 1 7 0 9-3z" />
    <path class="wing small" d="M17 17c4 0 7 1 9 4-4 1-7 0-9-3z" />
    <path class="body" d="M16 12v10m0 0c0 4-2 6-4 8m4-8c0 4 2 6 4 8" />
  </svg>`;
}
