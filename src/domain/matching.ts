import { excess, sizeFor, sizeText } from "./capacity.ts";
import { MayflyError } from "./errors.ts";
import { matchesGlob } from "./glob.ts";
import type { JobSighting } from "./job.ts";
import type { CapacityRequest } from "./label-grammar.ts";
import type { LabelRule } from "./label-rules.ts";
import { parseLabels } from "./labels.ts";
import type { ParsedLabels } from "./labels.ts";
import type { Pool } from "./pool.ts";
import type { Size } from "./size.ts";
import type { TrustClass } from "./trust.ts";
import { clip, listed, quote } from "./words.ts";

export * from "./label-rules.ts";

/**
 * The key under which jobs are counted: their labels as a set, in an order that no locale changes.
 * Two lists have one key exactly when they hold the same labels. Case is kept, since most forges
 * tell `Linux` from `linux`; where the forge does not, two classes are counted apart and each is
 * served.
 */
export function labelClass(labels: readonly string[]): string {
  return JSON.stringify([...new Set(labels)].sort());
}

/** The labels of a class, sorted and each once. Throws `invalid` for what is no such key. */
export function parseLabelClass(key: string): string[] {
  const labels = parseJson(key);
  if (Array.isArray(labels) && labels.every((label) => typeof label === "string")) return labels;
  throw new MayflyError("invalid", `${quote(key)} is no label class`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What of a job decides where it may run. */
export type Demand = Pick<JobSighting, "forge" | "labels" | "trust">;

export type Placement =
  | {
      readonly pool: Pool;
      readonly size: Size;
      /** Exactly the job's strings: what its runner registers with. */
      readonly labels: readonly string[];
      readonly reason: string;
    }
  | {
      readonly pool: null;
      readonly reason: string;
      /** The labels themselves are at fault, so no pool can ever take it. */
      readonly final: boolean;
    };

const longestReason = 1000;

/**
 * The first pool of the job's forge that may and can take it, or why each of them does not. `match`
 * is the forge's own rule. A pool offers its labels, its name, and the sizes that its machines can
 * have. A pool without a maximum is not limited here: hand in what its provider can make.
 *
 * A label that some pool of the forge offers as it stands is plain, whatever size it looks like.
 */
export function place(job: Demand, pools: readonly Pool[], match: LabelRule): Placement {
  const asked = pools.filter((pool) => pool.forge === job.forge);
  const isOffered = (label: string) => asked.some((pool) => match([label], offers(pool)));
  const parsed = parseLabels(job.labels, isOffered);
  if ("refusal" in parsed) return { pool: null, reason: parsed.refusal, final: true };

  const objections: string[] = [];
  for (const pool of asked) {
    const size = sizeFor(parsed.request, pool.size);
    const objection =
      objectionToTrust(pool, job.trust) ??
      objectionByPatterns(pool, job.labels) ??
      objectionToRequest(pool, parsed.request, size) ??
      objectionToLabels(pool, job.labels, parsed, match);
    if (objection === null) {
      return { pool, size, labels: job.labels, reason: `pool ${pool.name}: ${sizeText(size)}` };
    }
    objections.push(`pool ${pool.name}: ${objection}`);
  }
  const reason = objections.join("; ") || `no pool takes jobs from forge ${quote(job.forge)}`;
  return { pool: null, reason: clip(reason, longestReason), final: false };
}

function offers(pool: Pool): readonly string[] {
  return [...pool.labels, pool.name];
}

const trustWords: Readonly<Record<TrustClass, string>> = {
  trusted: "trusted",
  fork: "from a fork",
};

function objectionToTrust(pool: Pool, trust: TrustClass): string | null {
  if (pool.accept.includes(trust)) return null;
  const taken = pool.accept.map((accepted) => trustWords[accepted]);
  if (taken.length === 0) return "takes no jobs at all, its list of accepted trust is empty";
  return `takes only jobs that are ${listed(taken)}, this one is ${trustWords[trust]}`;
}

function objectionByPatterns(pool: Pool, labels: readonly string[]): string | null {
  for (const label of labels) {
    const denied = pool.deny.find((pattern) => matchesGlob(pattern, label));
    if (denied !== undefined) return `denies label ${quote(label)} by ${quote(denied)}`;
    const allowed = pool.allow.some((pattern) => matchesGlob(pattern, label));
    if (!allowed && pool.allow.length > 0) {
      return `does not allow label ${quote(label)}, only ${listed(pool.allow.map(quote))}`;
    }
  }
  return null;
}

function objectionToRequest(pool: Pool, request: CapacityRequest, size: Size): string | null {
  if (size.architecture !== pool.size.architecture) {
    return `has ${pool.size.architecture} machines, ${size.architecture} asked`;
  }
  if (request.image !== undefined && request.image !== pool.image) {
    const own = pool.image === null ? "the default image" : `image ${quote(pool.image)}`;
    return `has ${own}, ${quote(request.image)} asked`;
  }
  if (request.spot === true) return "has no spot machines";
  return pool.maximum === null ? null : excess(size, pool.maximum);
}

/**
 * The forge's rule sees all of the job's labels, the sizes too: the runner will register with them,
 * and to Forgejo a job that asks only for a size is not one that asks for nothing.
 */
function objectionToLabels(
  pool: Pool,
  labels: readonly string[],
  { plain }: ParsedLabels,
  match: LabelRule,
): string | null {
  const isPlain = new Set(plain);
  const offered = [...offers(pool), ...labels.filter((label) => !isPlain.has(label))];
  if (match(labels, offered)) return null;
  const missing = [...isPlain].filter((label) => !match([label], offered));
  return missing.length === 0
    ? "takes no job without labels"
    : `does not offer ${listed(missing.map(quote))}`;
}

/**
 * A warning when jobs of class `thief` can take the machines made for class `victim` but not the
 * other way round: then a burst of the first starves the second. Null: they cannot. A label of its
 * own (`mayfly=<run id>`) on each side prevents it.
 */
export function stealWarning(thief: string, victim: string, match: LabelRule): string | null {
  const asked = parseLabelClass(thief);
  const offered = parseLabelClass(victim);
  if (!match(asked, offered) || match(offered, asked)) return null;
  const words = (labels: string[]) => `[${listed(labels.map(quote))}]`;
  return (
    `jobs with labels ${words(asked)} may take machines made for ${words(offered)}; ` +
    `give each a label of its own, such as "mayfly=<run id>"`
  );
}
