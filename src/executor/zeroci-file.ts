import { LineCounter, parseDocument, type Document, type Node } from "yaml";
import { MayflyError } from "../domain/errors.ts";
import { nearest, quote } from "../domain/words.ts";

/*
 * The three generations of zeroCI.yaml that repositories have:
 * 3  jobs: [{name, prerequisites: {image_name, shell_bin}, install, script: [{name, cmd}], bin_path}]
 * 2  one job without `jobs:`, with prerequisites: {imageName}
 * 1  prerequisties: [jsx, docker] (so misspelt), install and script lists of commands
 */

export interface ZeroCiStep {
  readonly name: string;
  /** For the job's shell. */
  readonly command: string;
}

export interface ZeroCiJob {
  readonly name: string;
  readonly image: string | null;
  readonly shell: string;
  readonly install: string;
  readonly steps: readonly ZeroCiStep[];
  /** A built program to bring out. */
  readonly binary: string | null;
  /** What the machine should have and we only can tell of. */
  readonly prerequisites: readonly string[];
}

const bytesMax = 512 * 1024;
/** As many as its own service ran, one after the other. */
const jobsMax = 3;
const stepsMax = 500;

/** Reads zeroCI.yaml. Throws `invalid` with file:line:column and what to do. */
export function readZeroCi(text: string, file = "zeroCI.yaml"): ZeroCiJob[] {
  if (text.length > bytesMax) {
    throw new MayflyError("too_large", `it has more than ${bytesMax} bytes`, { where: file });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const reader = new Reader(document, lines, file);
  const [error] = document.errors;
  if (error !== undefined) {
    throw reader.fault(error.pos[0], error.message, "Mend the YAML there and commit it.");
  }
  return reader.file();
}

type Path = readonly (string | number)[];

class Reader {
  readonly #document: Document;
  readonly #lines: LineCounter;
  readonly #file: string;

  constructor(document: Document, lines: LineCounter, file: string) {
    this.#document = document;
    this.#lines = lines;
    this.#file = file;
  }

  fault(offset: number, message: string, hint: string): MayflyError {
    const { line, col } = this.#lines.linePos(offset);
    return new MayflyError("invalid", message, {
      where: `${this.#file}:${Math.max(1, line)}:${Math.max(1, col)}`,
      hint,
    });
  }

  file(): ZeroCiJob[] {
    const whole = this.#map([], ["jobs", ...jobKeys]);
    if (!("jobs" in whole)) return [this.#job([])];
    const jobs = this.#list(["jobs"], "a list of jobs, each with install and script");
    if (jobs.length > jobsMax) {
      throw this.#at(["jobs", jobsMax], `there are ${jobs.length} jobs`, `At most ${jobsMax} run.`);
    }
    return jobs.map((_, index) => this.#job(["jobs", index]));
  }

  #job(path: Path): ZeroCiJob {
    const job = this.#map(path, path.length === 0 ? ["jobs", ...jobKeys] : jobKeys);
    const prerequisites = [...path, "prerequisites" in job ? "prerequisites" : "prerequisties"];
    const listed = Array.isArray(this.#value(prerequisites));
    const named =
      listed || this.#value(prerequisites) === undefined
        ? {}
        : this.#map(prerequisites, ["image_name", "imageName", "shell_bin"]);
    const imageKey = "image_name" in named ? "image_name" : "imageName";
    return {
      name: this.#text([...path, "name"], "job"),
      image: this.#text([...prerequisites, imageKey], null),
      shell: this.#text([...prerequisites, "shell_bin"], "/bin/sh"),
      install: this.#commands([...path, "install"]).join("\n"),
      steps: this.#steps([...path, "script"]),
      binary: this.#text([...path, "bin_path"], null),
      prerequisites: listed ? this.#commands(prerequisites) : [],
    };
  }

  #steps(path: Path): ZeroCiStep[] {
    const wanted = "a list of steps, each with name and cmd";
    const steps = this.#list(path, wanted);
    if (steps.length === 0) throw this.#at(path, "there is no step", `Write ${wanted}.`);
    if (steps.length > stepsMax) throw this.#at(path, `more than ${stepsMax} steps`, "Take fewer.");
    return steps.map((step, index): ZeroCiStep => {
      const at = [...path, index];
      if (step === null || typeof step !== "object") {
        const command = this.#needed(at);
        return { name: firstWords(command), command };
      }
      this.#map(at, ["name", "cmd", "type", "working_dir", "yaml_path"]);
      const type = this.#text([...at, "type"], "cmd");
      if (type === "neph") {
        const folder = this.#needed([...at, "working_dir"]);
        const yaml = this.#needed([...at, "yaml_path"]);
        // Its own service kept the program there; a machine that has one elsewhere will do.
        const command = `cd -- ${shellWord(folder)} && PATH=$PATH:/zeroci/bin neph -y ${shellWord(yaml)} -m CI`;
        return { name: this.#text([...at, "name"], `neph ${yaml}`), command };
      }
      const command = this.#needed([...at, "cmd"]);
      return { name: this.#text([...at, "name"], firstWords(command)), command };
    });
  }

  /** One command as text, or several as a list. */
  #commands(path: Path): string[] {
    const value = this.#value(path);
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) return [this.#needed(path)];
    return value.map((_, index) => this.#needed([...path, index]));
  }

  #needed(path: Path): string {
    const text = this.#text(path, null);
    if (text !== null && text !== "") return text;
    throw this.#at(path, `${quote(String(path.at(-1)))} is missing`, "Write it as text.");
  }

  #text<D extends string | null>(path: Path, otherwise: D): string | D {
    const value = this.#value(path);
    if (value === undefined || value === null) return otherwise;
    if (typeof value === "string") return value;
    if (typeof value === "number" || typeof value === "boolean") return String(value);
    throw this.#at(path, "this must be text", "Write it on one line, or as a block after |.");
  }

  #list(path: Path, wanted: string): readonly unknown[] {
    const value = this.#value(path);
    if (Array.isArray(value)) return value;
    const what =
      value === undefined ? `${quote(String(path.at(-1)))} is missing` : "this is no list";
    throw this.#at(path, what, `Write ${wanted}.`);
  }

  #map(path: Path, known: readonly string[]): Readonly<Record<string, unknown>> {
    const value = this.#value(path);
    if (value === null || typeof value !== "object" || Array.isArray(value)) {
      throw this.#at(path, "there must be keys with values here", `Known are ${known.join(", ")}.`);
    }
    for (const key of Object.keys(value)) {
      if (known.includes(key)) continue;
      const meant = nearest(key, known);
      const hint =
        meant === null ? `Known are ${known.join(", ")}.` : `Did you mean ${quote(meant)}?`;
      throw this.#at([...path, key], `unknown key ${quote(key)}`, hint);
    }
    return value as Record<string, unknown>;
  }

  #value(path: Path): unknown {
    const found: unknown =
      path.length === 0 ? this.#document.contents : this.#document.getIn(path, true);
    if (found === undefined || found === null) return undefined;
    try {
      return (found as Node).toJS(this.#document, { maxAliasCount: 100 });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw this.fault((found as Node).range?.[0] ?? 0, why, "Write it out without aliases.");
    }
  }

  /** At the nearest place that is there. */
  #at(path: Path, message: string, hint: string): MayflyError {
    for (let length = path.length; length > 0; length--) {
      const node = this.#document.getIn(path.slice(0, length), true) as Node | undefined | null;
      if (node?.range != null) return this.fault(node.range[0], message, hint);
    }
    return this.fault(this.#document.contents?.range?.[0] ?? 0, message, hint);
  }
}

const jobKeys = [
  "name",
  "prerequisites",
  "prerequisties",
  "install",
  "script",
  "bin_path",
] as const;

function firstWords(command: string): string {
  const line = command.trim().split("\n")[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

function shellWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
