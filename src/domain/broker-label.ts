import { MayflyError } from "./errors.ts";
import { quote } from "./words.ts";

/*
 * The grammar of the labels that the broker lends machines under. A template such as
 * `mayfly_{run}_{attempt}` or `rr_runner_{id}` says how a label reads; everything else is no label
 * of ours. Labels come from strangers: a whole label matches or none of it does.
 */

/** What a label says. Null: its template does not hold it. */
export interface LabelParts {
  /** The label without the architecture that the first wire version puts behind it. */
  readonly base: string;
  /** A run's number at its forge. */
  readonly run: string | null;
  readonly attempt: number | null;
  /** What the workflow chose by chance. */
  readonly id: string | null;
  /** Of a label of the first wire version only. */
  readonly architecture: string | null;
}

const fields = {
  run: "[1-9][0-9]{0,14}",
  attempt: "[1-9][0-9]{0,3}",
  // Lower case alone: to GitHub, two labels that differ in case are one.
  id: "[0-9a-z]{8,64}",
} as const;

/** A literal, and what may stand in one: nothing that means something to a shell, path or log. */
const literal = /^[a-z0-9_-]*$/;
const longestTemplate = 60;
/** A label may then have all of its fields, an underscore and an architecture. */
const longestLabel = 200;
const architectureForm = /^[a-z0-9][a-z0-9_]{0,19}$/;

/** Whether a word may name an architecture: `x86_64`, `arm64`. */
export function isArchitectureName(text: string): boolean {
  return architectureForm.test(text);
}

/** How labels are read and written for one template and the architectures that there are. */
export class LabelTemplate {
  readonly text: string;
  readonly #whole: RegExp;
  readonly #withArchitecture: RegExp;

  /** Throws `invalid` for a template that would not tell labels apart. */
  constructor(text: string, architectures: readonly string[]) {
    this.text = text;
    const pattern = patternOf(text);
    this.#whole = new RegExp(`^(?<base>${pattern})$`);
    const known = architectures.length === 0 ? "(?!)" : architectures.join("|");
    this.#withArchitecture = new RegExp(`^(?<base>${pattern})_(?<architecture>${known})$`);
  }

  /** Whether a label names its run by itself. */
  get namesRun(): boolean {
    return this.text.includes("{run}");
  }

  /** Null: it is no label of this template. Takes any text, however long. */
  parse(label: string): LabelParts | null {
    if (label.length > longestLabel) return null;
    const { groups } = this.#whole.exec(label) ?? this.#withArchitecture.exec(label) ?? {};
    if (groups === undefined) return null;
    const { base = "", run = null, attempt, id = null, architecture = null } = groups;
    return { base, run, id, architecture, attempt: attempt === undefined ? null : Number(attempt) };
  }

  /** The label of a run's attempt, or null when it also needs an id that only the caller has. */
  of(run: string, attempt: number): string | null {
    if (this.text.includes("{id}")) return null;
    return this.text.replace("{run}", run).replace("{attempt}", String(attempt));
  }
}

/** Throws `invalid` for a template that would not tell labels apart. */
export function checkTemplate(text: string): void {
  patternOf(text);
}

function patternOf(template: string): string {
  const parts = template.split(/(\{[^{}]*\})/);
  const seen = new Set<string>();
  let pattern = "";
  for (const [index, part] of parts.entries()) {
    if (index % 2 === 0) {
      if (!literal.test(part)) throw fault("has something else than a-z, 0-9, _ and - around them");
      // Between two fields something has to stand that neither of them may hold.
      const isBetween = index > 0 && index < parts.length - 1;
      if (isBetween && !/^[_-]/.test(part)) throw fault("needs _ or - between its fields");
      pattern += part;
      continue;
    }
    const name = part.slice(1, -1);
    if (!Object.hasOwn(fields, name)) throw fault(`has no field ${quote(part)}`);
    if (seen.has(name)) throw fault(`has ${part} twice`);
    seen.add(name);
    pattern += `(?<${name}>${fields[name as keyof typeof fields]})`;
  }
  if (template.length > longestTemplate) throw fault(`is longer than ${longestTemplate}`);
  if (!/^[a-z][a-z0-9_-]*[_-]\{/.test(template)) {
    throw fault("must begin with a word of its own and _ or -");
  }
  if (!seen.has("run") && !seen.has("id")) throw fault("has neither {run} nor {id}");
  return pattern;
}

function fault(what: string): MayflyError {
  return new MayflyError("invalid", `the label's template ${what}`, {
    hint: "Write it like mayfly_{run}_{attempt} or rr_runner_{id}.",
  });
}
