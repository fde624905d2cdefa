import { MayflyError } from "../domain/errors.ts";
import { clip, quote } from "../domain/words.ts";

/*
 * rr's two wire versions, told apart by their fields:
 *
 *   1  {"operation":"create","architecture":"x86_64","label":"rr_runner_ID_x86_64"}
 *      {"operation":"destroy","labels":["rr_runner_ID_x86_64", …]}
 *   2  {"operation":"create","architectures":["x86_64","arm64"],"label":"rr_runner_ID"}
 *      {"operation":"destroy","label":"rr_runner_ID"}
 *
 * A create may say which run it is for (`repository`, `run_id`), which rr's own never does. The
 * answer is 200 without a body, or another status with one line for a job's log.
 */

export type WireRequest =
  | {
      readonly operation: "create";
      readonly version: 1 | 2;
      readonly label: string;
      readonly architectures: readonly string[];
      readonly repository: string | null;
      readonly run: string | null;
    }
  | { readonly operation: "destroy"; readonly labels: readonly string[] };

/** Bytes of a request: rr's have 150. */
export const wireBytesMax = 16_384;
/** Labels of one destroy, architectures of one create. */
const namesMax = 20;
const lineMax = 400;
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Reads a request's body. Throws `invalid`. Whether a label is one of ours is not looked at. */
export function parseWire(body: Uint8Array): WireRequest {
  const request = parseObject(body);
  const { operation } = request;
  if (operation === "create") return parseCreate(request);
  if (operation === "destroy") return { operation, labels: labelsOf(request) };
  throw invalid("operation", 'it must be "create" or "destroy"');
}

/** An error as one line of plain text: nothing in it ends the line or moves a terminal's cursor. */
export function wireLine({ message, hint }: Pick<MayflyError, "message" | "hint">): string {
  const text = hint === undefined ? message : `${message}. ${hint}`;
  const plain = text.toWellFormed().replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");
  return `${clip(plain, lineMax)}\n`;
}

function parseCreate(request: Readonly<Record<string, unknown>>): WireRequest {
  const { architecture, architectures } = request;
  if ((architecture === undefined) === (architectures === undefined)) {
    throw invalid("architectures", "say either `architecture` or `architectures`");
  }
  return {
    operation: "create",
    version: architecture === undefined ? 2 : 1,
    label: textOf(request["label"], "label"),
    architectures: namesOf(architectures ?? [architecture], "architectures"),
    repository: optional(request["repository"], "repository"),
    run: runOf(request["run_id"]),
  };
}

function labelsOf({ label, labels }: Readonly<Record<string, unknown>>): readonly string[] {
  if ((label === undefined) === (labels === undefined)) {
    throw invalid("label", "say either `label` or `labels`");
  }
  return namesOf(labels ?? [label], labels === undefined ? "label" : "labels");
}

function namesOf(value: unknown, where: string): readonly string[] {
  if (!Array.isArray(value) || value.length === 0) throw invalid(where, "it names nothing");
  if (value.length > namesMax) throw invalid(where, `it names more than ${namesMax}`);
  return [...new Set(value.map((item) => textOf(item, where)))];
}

function textOf(value: unknown, where: string): string {
  if (typeof value !== "string") throw invalid(where, "it must be text");
  if (value === "") throw invalid(where, "it is empty");
  return value;
}

function optional(value: unknown, where: string): string | null {
  return value === undefined || value === null ? null : textOf(value, where);
}

/** A number or text: workflows write `${{ github.run_id }}` with or without quotes. */
function runOf(value: unknown): string | null {
  const text = typeof value === "number" ? String(value) : optional(value, "run_id");
  if (text === null || /^[1-9][0-9]{0,14}$/.test(text)) return text;
  throw invalid("run_id", `${quote(text)} is no run's number`);
}

function parseObject(body: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(body));
  } catch {
    throw new MayflyError("invalid", "the request is not JSON", { where: "body" });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new MayflyError("invalid", "the request is no JSON object", { where: "body" });
}

function invalid(where: string, message: string): MayflyError {
  return new MayflyError("invalid", `${where}: ${message}`, { where });
}
