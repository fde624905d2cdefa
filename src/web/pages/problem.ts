import type { Context } from "hono";
import { html } from "hono/html";
import type { Problem } from "../errors.ts";
import type { Env, Web } from "../web.ts";
import { render } from "./layout.ts";
import { prose } from "./parts.ts";

/** A refusal, as a page. */
export async function problemPage(web: Web, c: Context<Env>, problem: Problem): Promise<Response> {
  const isMissing = problem.code === "not_found";
  const content = html`<div class="lead">
    <p class="trail">${problem.status}</p>
    <h1>${isMissing ? "Nothing here." : `${problem.title}.`}</h1>
    <p class="why">${capital(problem.detail)}.</p>
    ${problem.hint === undefined || isMissing ? "" : html`<p class="advice">${prose(problem.hint)}</p>`}
    <p><a href="/">Back to the overview</a></p>
  </div>`;
  const page = { title: problem.title, section: null, live: null, content };
  return c.html(await render(web, c, page), problem.status);
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
