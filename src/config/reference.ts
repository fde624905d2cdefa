import { z } from "zod";
import { configSchema, type Kinds } from "./schema.ts";

/*
 * The configuration, described from its schema: as JSON Schema for editors, and as the table of
 * keys in the manual.
 */

/** The parts of a JSON Schema that zod writes and the table shows. */
interface Json {
  readonly type?: string;
  readonly description?: string;
  readonly examples?: readonly unknown[];
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly additionalProperties?: unknown;
  readonly items?: unknown;
}

/** The JSON Schema of mayfly.yaml, with every kind of forge and provider. */
export function jsonSchema(kinds: Kinds): Json {
  const base = { cpu: 1, memoryMb: 1024, diskGb: 10, gpu: 0, architecture: "x64" } as const;
  return z.toJSONSchema(configSchema(kinds, base), { io: "input" }) as Json;
}

/** A Markdown table with a row for each key, in the schema's order. */
export function keyTable(schema: Json): string {
  const rows = rowsOf(schema, "").map(
    ({ path, example, description }) => `| \`${path}\` | ${example} | ${description} |`,
  );
  return ["| key | written like | meaning |", "| --- | --- | --- |", ...rows].join("\n");
}

interface Row {
  readonly path: string;
  readonly example: string;
  readonly description: string;
}

function rowsOf(schema: Json, path: string): Row[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, value]) => {
    const inner = resolved(value);
    const at = path === "" ? key : `${path}.${key}`;
    const below = resolved(inner.additionalProperties);
    return [
      { path: at, example: exampleOf(inner), description: cell(inner.description ?? "") },
      ...rowsOf(inner, at),
      ...(inner.properties === undefined ? rowsOf(below, `${at}.NAME`) : []),
      ...rowsOf(resolved(inner.items), `${at}[]`),
    ];
  });
}

/** A schema may be missing, or only `true` or `false`: then it has no keys of ours. */
function resolved(schema: unknown): Json {
  return typeof schema === "object" && schema !== null ? schema : {};
}

function exampleOf(schema: Json): string {
  const [example] = schema.examples ?? [];
  if (example !== undefined) return `\`${cell(text(example))}\``;
  const isEmpty = schema.default === undefined || /^(\[\]|\{\})$/.test(text(schema.default));
  if (!isEmpty) return `\`${cell(text(schema.default))}\``;
  if (schema.type === "array") {
    const item = resolved(schema.items);
    if (item.enum !== undefined) return `\`${text(item.enum)}\``;
    return item.properties === undefined ? "a list" : "a list of keys";
  }
  const words: Readonly<Record<string, string>> = {
    string: "text",
    integer: "a number",
    number: "a number",
    boolean: "`true` or `false`",
    object: "keys",
  };
  return words[schema.type ?? ""] ?? "";
}

function text(value: unknown): string {
  if (typeof value === "string") return value;
  return Array.isArray(value) ? `[${value.map(text).join(", ")}]` : JSON.stringify(value);
}

function cell(value: string): string {
  return value.replaceAll("|", "\\|").replaceAll("\n", " ");
}
