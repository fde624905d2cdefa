import { fieldWords, readLabel } from "./label-grammar.ts";
import type { CapacityRequest, Refusal } from "./label-grammar.ts";
import { quote } from "./words.ts";

export type { CapacityRequest, Refusal } from "./label-grammar.ts";

export interface ParsedLabels {
  readonly request: CapacityRequest;
  /** The labels that ask for no size, as written and in their order: the forge's to match. */
  readonly plain: readonly string[];
}

const maxLabels = 100;
const maxLabelLength = 256;
const unprintable = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u;

/**
 * Reads a job's labels: what they ask of its machine, and which are plain. The grammar is in
 * `label-grammar.ts`. Several labels may each ask for a part (`4cpu`, `8gb`) and may repeat one
 * another; where two ask for different amounts of one thing, the job is refused.
 *
 * `isOffered` says which labels somebody offers as they stand: those are plain whatever the grammar
 * would make of them, so that a pool may be called `large`.
 */
export function parseLabels(
  labels: readonly string[],
  isOffered: (label: string) => boolean = () => false,
): ParsedLabels | Refusal {
  const fault = firstFault(labels);
  if (fault !== null) return { refusal: fault };

  const plain: string[] = [];
  const request: CapacityRequest = {};
  const askedBy = new Map<keyof CapacityRequest, string>();
  for (const label of labels) {
    const asked = readLabel(label);
    if (asked === null || isOffered(label)) {
      plain.push(label);
      continue;
    }
    if ("refusal" in asked) return { refusal: `label ${quote(label)}: ${asked.refusal}` };
    for (const field of Object.keys(asked) as (keyof CapacityRequest)[]) {
      const earlier = askedBy.get(field);
      if (earlier !== undefined && request[field] !== asked[field]) {
        const both = `labels ${quote(earlier)} and ${quote(label)}`;
        return { refusal: `${both} ask for a different ${fieldWords[field]}; keep one of them` };
      }
      askedBy.set(field, label);
    }
    Object.assign(request, asked);
  }
  return { request, plain };
}

/**
 * The labels (one, or none for an empty request) that ask for exactly this, in the keyed form:
 * `parseLabels(printRequest(r)).request` equals `r`.
 */
export function printRequest(request: CapacityRequest): string[] {
  const { cpu, memoryMb, diskGb, gpu, architecture, spot, image, runId } = request;
  const pairs = Object.entries({
    cpu,
    ram: memoryMb !== undefined && memoryMb % 1024 !== 0 ? `${memoryMb}mb` : inGb(memoryMb),
    disk: diskGb,
    gpu,
    arch: architecture,
    spot,
    image,
  }).flatMap(([key, value]) => (value === undefined ? [] : [`/${key}=${value}`]));
  const head = runId === undefined ? "mayfly" : `mayfly=${runId}`;
  return runId === undefined && pairs.length === 0 ? [] : [head + pairs.join("")];
}

/** Whether the labels say that no machine will do that its provider may take back. */
export function wantsOnDemand(labels: readonly string[]): boolean {
  const parsed = parseLabels(labels);
  return !("refusal" in parsed) && parsed.request.spot === false;
}

/** A label that asks for that, beside others. */
export const onDemandLabel = "mayfly/spot=false";

function inGb(memoryMb: number | undefined): number | undefined {
  return memoryMb === undefined ? undefined : memoryMb / 1024;
}

function firstFault(labels: readonly string[]): string | null {
  if (labels.length > maxLabels)
    return `the job has ${labels.length} labels, at most ${maxLabels} are read`;
  for (const [index, label] of labels.entries()) {
    const which = `label ${index + 1} of ${labels.length}`;
    if (label === "") return `${which} is empty`;
    if (label.length > maxLabelLength) {
      return `${which} has ${label.length} characters, at most ${maxLabelLength} are read`;
    }
    if (unprintable.test(label)) return `${which} holds a control character`;
  }
  return null;
}
