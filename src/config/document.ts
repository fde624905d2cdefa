import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Document,
  type Node,
} from "yaml";

export type Path = readonly PropertyKey[];

/** Something wrong with the value at a path. */
export interface Fault {
  readonly path: Path;
  /** `what is wrong; what to do`. */
  readonly message: string;
}

/** One thing wrong in a file. `line` and `column` count from 1. */
export interface Problem {
  readonly line: number;
  readonly column: number;
  /** `pools.small.max`, or empty for the file as a whole. */
  readonly path: string;
  /** `what is wrong; what to do`. */
  readonly message: string;
}

/** A YAML file as plain values that remember where each of them stands. */
export interface PlainDocument {
  readonly value: unknown;
  readonly problems: readonly Problem[];
  /** Puts a fault at its key (or list item), or at the nearest parent that is there. */
  place(fault: Fault): Problem;
}

/** Bounds on what a file may unfold to: aliases make much out of little. */
const valuesMax = 20_000;
const depthMax = 32;
const problemsMax = 100;

/** Where a value's key (in a list: the value itself) begins, and the same for what is in it. */
interface Spot {
  readonly offset: number;
  readonly children: Map<PropertyKey, Spot>;
}

/**
 * Parses one YAML 1.2 document. An empty value (`pools:`) counts as absent. Never throws: what is
 * wrong is in `problems`.
 */
export function parseYaml(text: string): PlainDocument {
  const lines = new LineCounter();
  const root: Spot = { offset: 0, children: new Map() };
  const at = (offset: number, path: string, message: string): Problem => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col), path, message };
  };
  const place = ({ path, message }: Fault) => at(offsetOf(root, path), pathText(path), message);

  const document = parse(text, lines);
  if (document === null) {
    return { value: undefined, problems: [at(0, "", tooDeep)], place };
  }
  const faults = [...document.errors, ...document.warnings];
  if (faults.length > 0) {
    const places = new Set<number>();
    const problems = faults.slice(0, problemsMax).flatMap(({ code, message, pos: [offset] }) => {
      // One mistake often breaks several rules; the first names it best.
      if (places.has(offset)) return [];
      places.add(offset);
      const isDeep = message.includes("call stack");
      return [at(offset, "", isDeep ? tooDeep : (syntaxAdvice[code] ?? message))];
    });
    return { value: undefined, problems, place };
  }
  const reader = new Reader();
  const value = reader.read(document.contents, root, []);
  const problems = reader.faults.map(({ offset, path, message }) =>
    at(offset, pathText(path), message),
  );
  return { value, problems, place };
}

/** Null: nested beyond what the parser's own stack can hold. */
function parse(text: string, lineCounter: LineCounter): Document.Parsed | null {
  try {
    return parseDocument(text, {
      lineCounter,
      version: "1.2",
      schema: "core",
      prettyErrors: false,
      stringKeys: true,
      // Its own check is quadratic; ours is below.
      uniqueKeys: false,
    });
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

const tooDeep = `nested more than ${depthMax} deep; a configuration is never that deep`;

const syntaxAdvice: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: "a tab indents this line; YAML takes spaces only",
  MULTIPLE_DOCS: "a second document begins here; keep one document in the file",
  NON_STRING_KEY: "this key is not text; write it in quotes",
  TAG_RESOLVE_FAILED: "a tag (!…) means nothing here; leave it out",
  BLOCK_AS_IMPLICIT_KEY:
    'a key cannot begin here; put it on a line of its own, or quote a text that holds ": "',
  MULTILINE_IMPLICIT_KEY: 'this is no "key: value"; add what is missing, or indent it',
};

class Reader {
  readonly faults: { offset: number; path: Path; message: string }[] = [];
  /** Filled in the file's order: an alias means the last anchor of its name before it. */
  readonly #anchors = new Map<string, unknown>();
  #aliasesWithin = 0;
  #values = 0;

  read(node: unknown, spot: Spot, path: Path): unknown {
    if (++this.#values > valuesMax) {
      if (this.#values === valuesMax + 1) {
        this.#fault(spot.offset, path, `more than ${valuesMax} values; use fewer aliases`);
      }
      return undefined;
    }
    if (path.length > depthMax) {
      this.#fault(spot.offset, path.slice(0, 3), tooDeep);
      return undefined;
    }
    if (isAlias(node)) {
      if (!this.#anchors.has(node.source)) {
        this.#fault(start(node), path, `no anchor named &${node.source} comes before this`);
        return undefined;
      }
      this.#aliasesWithin += 1;
      const value = this.read(this.#anchors.get(node.source), spot, path);
      this.#aliasesWithin -= 1;
      return value;
    }
    const anchor = (node as Node | null)?.anchor;
    if (anchor !== undefined && this.#aliasesWithin === 0) this.#anchors.set(anchor, node);
    if (isMap(node)) return this.#readMap(node.items, spot, path);
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const child = { offset: start(item), children: new Map<PropertyKey, Spot>() };
        spot.children.set(index, child);
        return this.read(item, child, [...path, index]);
      });
    }
    return isScalar(node) ? (node.value ?? undefined) : undefined;
  }

  #readMap(
    items: readonly { key: unknown; value: unknown }[],
    spot: Spot,
    path: Path,
  ): Record<string, unknown> {
    const map: Record<string, unknown> = {};
    for (const pair of items) {
      const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
      const child = { offset: start(pair.key), children: new Map<PropertyKey, Spot>() };
      if (key === "__proto__") {
        this.#fault(child.offset, [...path, key], "this cannot be a key; choose another name");
      } else if (spot.children.has(key)) {
        this.#fault(child.offset, [...path, key], "this key is here twice; remove one of them");
      } else {
        spot.children.set(key, child);
        map[key] = this.read(pair.value, child, [...path, key]);
      }
    }
    return map;
  }

  #fault(offset: number, path: Path, message: string): void {
    if (this.faults.length >= problemsMax) return;
    this.faults.push({ offset, path, message });
  }
}

/** `pools.small.labels[2]`. */
function pathText(path: Path): string {
  const parts = path.map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`));
  return parts.join("").replace(/^\./, "");
}

function offsetOf(root: Spot, path: Path): number {
  let spot = root;
  for (const part of path) {
    const child = spot.children.get(part);
    if (child === undefined) break;
    spot = child;
  }
  return spot.offset;
}

function start(node: unknown): number {
  return (node as Node | null)?.range?.[0] ?? 0;
}
