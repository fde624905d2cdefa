import { existsSync, readFileSync, renameSync, writeFileSync, appendFileSync } from "node:fs";
import { MayflyError } from "../domain/errors.ts";
import { readLabels, readMoment } from "../sim/trace/columns.ts";
import { CsvReader } from "../sim/trace/csv.ts";
import { header, lineOf, type PastJob } from "./simulate-sources.ts";

/**
 * A history kept in a file, which is a trace, so that fetching it can be gone on with. The jobs of a
 * run are added together; the last run may have been cut short, and is forgotten.
 */
export class KeptHistory {
  readonly runs = new Set<string>();
  readonly jobs: readonly PastJob[];
  readonly #file: string;

  /** Throws `conflict` for a file that is something else. */
  constructor(file: string) {
    this.#file = file;
    if (!existsSync(file)) {
      writeFileSync(file, title, { mode: 0o600 });
      this.jobs = [];
      return;
    }
    // A record is one line: what is written has no line breaks.
    const lines = readFileSync(file, "utf8").split("\n");
    if (`${lines[0]}\n` !== title) {
      throw new MayflyError("conflict", `${file} is there and was not kept by this command`, {
        where: "--save",
        hint: "Name a new file.",
      });
    }
    const records = lines.slice(1, -1);
    const last = runOf(records.at(-1) ?? "");
    const whole = records.filter((line) => runOf(line) !== last);
    writeFileSync(`${file}.new`, [title.trimEnd(), ...whole, ""].join("\n"), { mode: 0o600 });
    renameSync(`${file}.new`, file);
    this.jobs = this.#read(whole);
  }

  add(run: string, jobs: readonly PastJob[]): void {
    appendFileSync(this.#file, jobs.map((job) => `${run},${lineOf(job)}`).join(""));
    this.runs.add(run);
  }

  #read(lines: readonly string[]): PastJob[] {
    const jobs: PastJob[] = [];
    const reader = new CsvReader(this.#file, ([run = "", ...fields]) => {
      const [queued = "", started = "", ended = "", labels = "", , name = "", ...more] = fields;
      this.runs.add(run);
      jobs.push({
        queuedAt: readMoment(queued) ?? 0,
        startedAt: readMoment(started),
        endedAt: readMoment(ended),
        labels: readLabels(labels) ?? [],
        trust: "trusted",
        name,
        repository: more[0] ?? "",
        conclusion: more[1] ?? "",
      });
    });
    for (const line of lines) reader.push(`${line}\n`);
    reader.end();
    return jobs;
  }
}

const title = `run,${header}`;

function runOf(line: string): string {
  return line.slice(0, Math.max(0, line.indexOf(",")));
}
