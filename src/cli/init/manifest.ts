import { randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import { MayflyError } from "../../domain/errors.ts";
import type { Address } from "../../forges/github/address.ts";

/** A GitHub App as GitHub gives it, once. */
export interface MadeApp {
  readonly id: number;
  readonly key: string;
  readonly secret: string | null;
  /** Its page. */
  readonly url: string;
}

const conversion = z.object({
  id: z.int(),
  pem: z.string().min(1),
  webhook_secret: z.string().nullish(),
  html_url: z.url({ protocol: /^https?$/ }),
});

export interface Rights {
  /** Also what it takes to run a job again whose machine was taken back. */
  readonly rerun: boolean;
}

/** What the App may, and no more; repositories' own runners are under "administration". */
export function permissionsFor(
  { scope }: Address,
  { rerun }: Rights,
): Readonly<Record<string, "read" | "write">> {
  const runners =
    scope.kind === "repository" ? "administration" : "organization_self_hosted_runners";
  return {
    ...(rerun ? { actions: "write", checks: "read" } : { actions: "read" }),
    metadata: "read",
    [runners]: "write",
  };
}

export interface AppOptions extends Rights {
  readonly name: string;
  /** Where GitHub sends its events; null: nowhere. */
  readonly reach: string | null;
}

/**
 * Makes a GitHub App by its manifest flow: serves a page on this machine whose button sends the
 * manifest to GitHub, and takes the code that GitHub sends the browser back with, which is exchanged
 * for the App's key. `show` is told the page's address. Source: docs.github.com, "Registering a
 * GitHub App from a manifest".
 */
export async function makeApp(
  address: Address,
  options: AppOptions & { readonly port: number },
  show: (url: string) => void,
  fetch: typeof globalThis.fetch,
  signal: AbortSignal,
): Promise<MadeApp> {
  const state = randomBytes(16).toString("hex");
  let settle: (code: string) => void = () => {};
  const told = new Promise<string>((resolve) => (settle = resolve));
  const server = createServer((request, response) => {
    const page = answer(request, state, settle, () => form(address, options, state, own()));
    respond(response, page);
  });
  const own = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  server.requestTimeout = 10_000;
  server.listen(options.port, "127.0.0.1");
  await once(server, "listening", { signal });
  try {
    show(own());
    const code = await Promise.race([told, aborted(signal)]);
    return await convert(address, code, fetch, signal);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function answer(
  { url, method, headers }: IncomingMessage,
  state: string,
  settle: (code: string) => void,
  page: () => string,
): { status: number; body: string } {
  // Another name means another site's page that was rebound to us.
  if (!/^127\.0\.0\.1(:\d+)?$/.test(headers.host ?? "") || method !== "GET") {
    return { status: 403, body: "<p>This page is for this machine's own browser.</p>" };
  }
  const { pathname, searchParams } = new URL(url ?? "/", "http://127.0.0.1");
  if (pathname === "/") return { status: 200, body: page() };
  const code = searchParams.get("code") ?? "";
  const isCode = /^[A-Za-z0-9_-]{10,200}$/.test(code);
  if (pathname !== "/made" || !isCode || !isSame(searchParams.get("state") ?? "", state)) {
    return { status: 400, body: "<p>This is no answer of GitHub's. Begin again.</p>" };
  }
  settle(code);
  return { status: 200, body: "<p>The App is made. Go on in the terminal.</p>" };
}

function isSame(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function form(
  address: Address,
  { name, reach, rerun }: AppOptions,
  state: string,
  own: string,
): string {
  const { scope } = address;
  const base = new URL(address.url).origin;
  const where =
    scope.kind === "organisation" ? `/organizations/${scope.organisation}/settings` : "/settings";
  const permissions = permissionsFor(address, { rerun });
  const manifest = {
    name,
    url: reach ?? address.url,
    redirect_url: `${own}/made`,
    public: false,
    default_permissions: permissions,
    ...(reach === null
      ? {}
      : {
          hook_attributes: { url: reach, active: true },
          default_events: ["workflow_job", "workflow_run"],
        }),
  };
  const rights = Object.entries(permissions).map(
    ([right, level]) => `<li><code>${right}</code>: ${level}</li>`,
  );
  return `<h1>A GitHub App for Mayfly</h1>
<p>GitHub makes the App ${escaped(name)} for ${escaped(address.told)}, with these rights and no others:</p>
<ul>${rights.join("")}</ul>
<form method="post" action="${escaped(`${base}${where}/apps/new?state=${state}`)}">
<input type="hidden" name="manifest" value="${escaped(JSON.stringify(manifest))}">
<button>Make it at GitHub</button></form>`;
}

function escaped(text: string): string {
  const names: Readonly<Record<string, string>> = { "&": "amp", "<": "lt", ">": "gt", '"': "quot" };
  return text.replaceAll(/[&<>"]/g, (letter) => `&${names[letter]};`);
}

function respond(
  response: ServerResponse,
  { status, body }: { status: number; body: string },
): void {
  response.writeHead(status, {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    connection: "close",
  });
  response.end(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Mayfly</title>
<style>body{font:1rem/1.5 system-ui;max-width:36rem;margin:4rem auto;padding:0 1rem}</style>${body}</html>`);
}

async function convert(
  address: Address,
  code: string,
  fetch: typeof globalThis.fetch,
  signal: AbortSignal,
): Promise<MadeApp> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(30_000)]);
  const url = `${address.api}/app-manifests/${code}/conversions`;
  let status = 0;
  try {
    const headers = { accept: "application/vnd.github+json", "user-agent": "mayfly" };
    const response = await fetch(url, { method: "POST", headers, signal: within });
    ({ status } = response);
    const made = conversion.safeParse(await response.json());
    if (made.success) {
      const { id, pem, webhook_secret: secret, html_url: page } = made.data;
      return { id, key: pem, secret: secret ?? null, url: page };
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    if (status === 0) throw new MayflyError("unavailable", `GitHub does not answer: ${why}`);
  }
  throw new MayflyError("unavailable", `GitHub gave no key for the App (status ${status})`, {
    hint: "Its code is good for an hour and for once. Begin again; an App half made can be deleted.",
  });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const end = (): void => reject(new MayflyError("unavailable", "nobody made the App in time"));
    if (signal.aborted) end();
    else signal.addEventListener("abort", end, { once: true });
  });
}
