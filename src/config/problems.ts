import type { z } from "zod";
import { MayflyError } from "../domain/errors.ts";
import { listed, nearest, quote } from "../domain/words.ts";
import type { Fault, Path, Problem } from "./document.ts";

/** A configuration that cannot be used, with everything that is wrong in it. */
export class ConfigError extends MayflyError {
  readonly file: string;
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[]) {
    super("invalid", problems.map((problem) => problemText(file, problem)).join("\n"), {
      where: file,
    });
    this.name = "ConfigError";
    this.file = file;
    this.problems = problems;
  }
}

/** `mayfly.yaml:12:3: pools.small.max: must be at least 1`. */
function problemText(file: string, { line, column, path, message }: Problem): string {
  return [`${file}:${line}:${column}`, ...(path === "" ? [] : [path]), message].join(": ");
}

type Issue = z.core.$ZodIssue;

/** What zod found in `value`, in words. Values are not repeated: one may be a secret. */
export function explain(schema: z.ZodType, value: unknown, issues: readonly Issue[]): Fault[] {
  const misspelt = new Set(
    issues.filter(({ code }) => code === "unrecognized_keys").map(({ path }) => path.join("\0")),
  );
  return issues.flatMap((issue) => {
    if (issue.code === "unrecognized_keys") {
      const known = keysAt(schema, issue.path);
      return issue.keys.map((key) => ({
        path: [...issue.path, key],
        message: unknownKey(key, known),
      }));
    }
    // A rule on the whole object says nothing new while one of its keys is misspelt.
    if (issue.code === "custom" && misspelt.has(issue.path.join("\0"))) return [];
    const message = words(issue, at(value, issue.path), exampleAt(schema, issue.path));
    return [{ path: issue.path, message }];
  });
}

function unknownKey(key: string, known: readonly string[]): string {
  const meant = nearest(key, known);
  if (meant !== null) return `unknown key; did you mean ${quote(meant)}?`;
  const hint = known.length === 0 ? "there are none here" : `known are ${listed(known, 20)}`;
  return `unknown key; ${hint}`;
}

const typeWords: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "keys with values",
  record: "keys with values",
};

const nameAdvice =
  "is no name; take a-z, 0-9 and -, at most 31 of them, beginning with a letter or digit";

function words(issue: Issue, found: unknown, example: string | null): string {
  switch (issue.code) {
    case "invalid_type":
      return typeMistake(issue.expected, found, example);
    case "invalid_value":
      return `must be ${issue.values.map((value) => quote(String(value))).join(" or ")}`;
    case "too_small":
      return `must ${extent(issue.origin, "at least", issue.minimum)}`;
    case "too_big":
      return `must ${extent(issue.origin, "at most", issue.maximum)}`;
    case "invalid_key":
      return issue.issues.map((inner) => words(inner, found, null)).join(", and ");
    case "invalid_format":
      // A kind's own pattern says what it wants; ours is that of names.
      if (!issue.message.startsWith("Invalid")) return `must be ${issue.message}`;
      if (issue.format === "regex") return nameAdvice;
      return `is no ${issue.format}${example === null ? "" : `; write it like ${quote(example)}`}`;
    case "invalid_union":
      return issue.errors
        .flat()
        .map((inner) => words(inner, found, null))
        .join(", or ");
    default:
      return issue.message;
  }
}

function typeMistake(expected: string, found: unknown, example: string | null): string {
  const such = example === null ? "" : ` such as ${quote(example)}`;
  const wanted = `must be ${typeWords[expected] ?? expected}${such}`;
  if (found === undefined) return `is missing; it ${wanted}`;
  // What is no whole number is a number all the same.
  return typeof found === "number" && expected !== "string"
    ? wanted
    : `${wanted}, not ${typeOf(found)}`;
}

function typeOf(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "keys with values";
  return typeof value === "boolean" ? "true or false" : (typeWords[typeof value] ?? "this");
}

function extent(origin: string, bound: string, limit: number | bigint): string {
  const several = Number(limit) !== 1;
  if (origin === "string") return `have ${bound} ${limit} character${several ? "s" : ""}`;
  if (origin === "array") return `have ${bound} ${limit} ${several ? "entries" : "entry"}`;
  return `be ${bound} ${limit}`;
}

function at(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (inner, part) => (inner as Record<PropertyKey, unknown>)?.[part],
    value,
  );
}

/** The keys that an object at `path` may have. */
function keysAt(schema: z.ZodType, path: Path): string[] {
  const { def } = schemasAt(schema, path).at(-1)!;
  return def.type === "object" ? Object.keys(def.shape) : [];
}

/** How the schema at `path` shows that it may be written. */
function exampleAt(schema: z.ZodType, path: Path): string | null {
  for (const layer of schemasAt(schema, path)) {
    const [example] = layer.meta()?.examples ?? [];
    if (typeof example === "string") return example;
  }
  return null;
}

/** The parts of zod's own definitions that are walked here. */
interface Layer {
  readonly def: {
    readonly type: string;
    readonly shape: Readonly<Record<string, Layer>>;
    readonly valueType?: Layer;
    readonly element?: Layer;
    readonly innerType?: Layer;
    readonly in?: Layer;
  };
  meta(): { readonly examples?: readonly unknown[] } | undefined;
}

/** The schema at `path` with all that makes it optional, defaulted or transformed, outermost first. */
function schemasAt(schema: z.ZodType, path: Path): Layer[] {
  let layers = layersOf(schema as unknown as Layer);
  for (const part of path) {
    const { def } = layers.at(-1)!;
    const next = def.type === "object" ? def.shape[String(part)] : (def.valueType ?? def.element);
    if (next === undefined) break;
    layers = layersOf(next);
  }
  return layers;
}

function layersOf(schema: Layer): Layer[] {
  const inner = schema.def.innerType ?? schema.def.in;
  return inner === undefined ? [schema] : [schema, ...layersOf(inner)];
}
