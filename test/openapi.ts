import assert from "node:assert/strict";
import { z } from "zod";

/* Holds answers against the document that describes them. */

type Schema = Record<string, unknown>;
interface Operation {
  readonly summary?: string;
  readonly parameters?: readonly { name: string; in: string; required?: boolean; schema: Schema }[];
  readonly requestBody?: { readonly content: Record<string, unknown> };
  readonly responses: Record<
    string,
    { description: string; content?: Record<string, { schema: Schema }> }
  >;
}
interface Document {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, Schema> };
}

export class OpenApi {
  readonly document: Document;
  /** `GET /v1/jobs 200` for each answer that was held against it. */
  readonly seen = new Set<string>();

  constructor(document: unknown) {
    this.document = document as Document;
  }

  operations(): { method: string; path: string; operation: Operation }[] {
    return Object.entries(this.document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        method: method.toUpperCase(),
        path,
        operation,
      })),
    );
  }

  /** Fails when the document does not know this answer, or describes it otherwise. */
  check(method: string, path: string, status: number, type: string, body: unknown): void {
    const place = `${method} ${path} ${status}`;
    const response = this.#operation(method, path)?.responses[String(status)];
    assert.ok(response !== undefined, `${place} is not documented`);
    this.seen.add(place);
    const media = response.content?.[type.split(";")[0] ?? ""];
    assert.ok(media !== undefined, `${place} is not documented as ${type}`);
    if (!/json/.test(type)) return;
    const checked = this.#schema(media.schema).safeParse(body);
    assert.ok(
      checked.success,
      `${place}: ${checked.success ? "" : z.prettifyError(checked.error)}`,
    );
  }

  #operation(method: string, path: string): Operation | undefined {
    const found = this.operations().find(
      (one) => one.method === method && patternOf(one.path).test(path),
    );
    return found?.operation;
  }

  #schema(schema: Schema): z.ZodType {
    const whole = { ...schema, $defs: this.document.components.schemas };
    const text = JSON.stringify(whole).replaceAll("#/components/schemas/", "#/$defs/");
    return z.fromJSONSchema(JSON.parse(text) as Parameters<typeof z.fromJSONSchema>[0]);
  }
}

function patternOf(path: string): RegExp {
  const parts = path.split(/\{[^}]+\}/).map((part) => part.replaceAll(".", "\\."));
  const last = path.endsWith("{path}") ? ".+" : "[^/]+";
  return new RegExp(
    `^${parts.slice(0, -1).join("[^/]+")}${parts.length > 1 ? last : ""}${parts.at(-1) ?? ""}$`,
  );
}
