import { createRoute, OpenAPIHono, z, type RouteConfig } from "@hono/zod-openapi";
import { MayflyError } from "../../domain/errors.ts";
import { readBody } from "../body.ts";
import { ProblemSchema } from "../schemas.ts";
import type { Env, Web } from "../web.ts";
import type { Context, Handler } from "hono";

export type Api = OpenAPIHono<Env>;

/** A router whose refusals name the field at fault. */
export function newApi(): Api {
  return new OpenAPIHono<Env>({
    defaultHook: (result) => {
      if (!result.success) throw invalidInput(result.error);
    },
  });
}

/** The first thing wrong, and where. */
function invalidInput(error: z.ZodError): MayflyError {
  const issue = error.issues[0];
  if (issue === undefined) return new MayflyError("invalid", "the request is not understood");
  const place = placeOf(issue.path);
  if (issue.code === "unrecognized_keys") {
    const [key = ""] = issue.keys;
    return new MayflyError("invalid", `there is no field ${JSON.stringify(key.slice(0, 60))}`, {
      where: place === "" ? key.slice(0, 60) : `${place}.${key.slice(0, 60)}`,
      hint: "GET /v1/openapi.json lists the fields there are.",
    });
  }
  return new MayflyError(
    "invalid",
    issue.message,
    place === "" ? {} : { where: place.slice(0, 200) },
  );
}

/** `labels[2]`, `source.url`. */
function placeOf(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .replace(/^\./, "");
}

/**
 * Registers a route whose body is not read by the framework: so that it is read within our bounds,
 * and only after the caller has shown who it is.
 */
export function addRaw(api: Api, route: RouteConfig, handler: Handler<Env>): void {
  api.openAPIRegistry.registerPath(route);
  api.on([route.method.toUpperCase()], [createRoute(route).getRoutingPath()], handler);
}

/** A JSON body, read within bounds and checked. Throws `invalid`, `too_large`, `unavailable`. */
export async function readJson<T extends z.ZodType>(
  web: Web,
  c: Context<Env>,
  schema: T,
): Promise<z.output<T>> {
  const type = c.req.header("content-type") ?? "";
  const { limits } = web;
  const bytes = await readBody(c.env.incoming, {
    maxBytes: limits.jsonBytesMax,
    deadlineMs: limits.bodyMs,
    budget: web.bodies,
  });
  if (!/^application\/([a-z.-]+\+)?json\s*(;|$)/i.test(type) && bytes.length > 0) {
    throw new MayflyError("invalid", "the body is not JSON", {
      where: "content-type",
      hint: "Send it with `Content-Type: application/json`.",
    });
  }
  const parsed = schema.safeParse(bytes.length === 0 ? {} : parseJson(bytes));
  if (!parsed.success) throw invalidInput(parsed.error);
  return parsed.data;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    const detail = error instanceof SyntaxError ? error.message : "it is not UTF-8";
    throw new MayflyError("invalid", `the body is not JSON: ${detail.slice(0, 200)}`, {
      where: "body",
    });
  }
}

/** One answer of a route, as its documentation has it. */
export function answer<T extends z.ZodType>(
  description: string,
  schema: T,
): { description: string; content: { "application/json": { schema: T } } } {
  return { description, content: { "application/json": { schema } } };
}

type Refusals = Record<
  number,
  { description: string; content: { "application/problem+json": { schema: typeof ProblemSchema } } }
>;

const meanings: Readonly<Record<number, string>> = {
  400: "Something in the request is wrong; `where` says what",
  401: "The token is missing or wrong",
  403: "This may not be done here, or not from another site's page",
  404: "There is no such thing",
  409: "Its state does not allow it",
  413: "Too large",
  429: "Too much is waiting; come back shortly",
  503: "Not now; come back shortly",
};

/** What may go wrong, for the documentation. */
export function refusals(...statuses: readonly number[]): Refusals {
  const content = { "application/problem+json": { schema: ProblemSchema } };
  return Object.fromEntries(
    statuses.map((status) => [status, { description: meanings[status] ?? "Refused", content }]),
  );
}

export const bearer: NonNullable<RouteConfig["security"]> = [{ token: [] }];

/** A name of ours in an address: no control character, which no name has and no store takes. */
export function nameText(most: number): z.ZodString {
  return z
    .string()
    .min(1)
    .max(most)
    .regex(/^\P{Cc}+$/u, "no name of ours");
}

export const IdParam = z.object({ id: nameText(300) });
export const NameParam = z.object({ name: nameText(100) });

/** The same for addresses of pages, where what is no name is simply not there. */
export function isName(text: string): boolean {
  return nameText(300).safeParse(text).success;
}

/** Where a list goes on: the moment and the id of the last one shown. */
export const BeforeParam = z
  .string()
  .regex(/^[0-9]{1,15}(:\P{Cc}{1,300})?$/u, "as `next` of the page before, or milliseconds")
  .optional()
  .openapi({
    description: "The next page: `next` of this one, or a moment in ms",
    example: "1767225600000",
  });

/** A whole number in a query, with what it is when absent. */
export function wholeNumber(
  minimum: number,
  maximum: number,
  fallback: number,
): z.ZodDefault<z.ZodCoercedNumber> {
  const metadata = { type: "integer", minimum, maximum, default: fallback } as const;
  const schema = z.coerce.number().int().min(minimum).max(maximum);
  return schema.default(fallback).openapi(metadata);
}

export const LimitParam = wholeNumber(1, 500, 100);

/** Where a stream broke, as its reader says on coming back; null: it begins. Throws `invalid`. */
export function lastEventId(c: Context<Env>): number | null {
  const id = c.req.header("last-event-id") ?? "";
  if (id === "") return null;
  if (/^[0-9]{1,15}$/.test(id)) return Number(id);
  throw new MayflyError("invalid", "not an id that this stream gave", { where: "last-event-id" });
}

export function parseBefore(before: string | undefined): { at: number; id?: string } | null {
  if (before === undefined) return null;
  const [, at = "0", id] = /^([0-9]+)(?::(.+))?$/u.exec(before) ?? [];
  return id === undefined ? { at: Number(at) } : { at: Number(at), id };
}
