import { createReadStream, existsSync, createWriteStream } from "node:fs";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { MayflyError } from "../domain/errors.ts";
import { csvField } from "../sim/trace/csv.ts";
import { readTrace } from "../sim/trace/read.ts";
import { TraceBuilder, type Trace } from "../sim/trace/trace.ts";
import { trustClasses, type TrustClass } from "../domain/trust.ts";
import type { JobView, MachineView } from "../web/views.ts";
import { Client } from "./client.ts";
import { defaultStateFolder } from "./places.ts";
import type { ClientFlags } from "./program.ts";
import type { Measured } from "./simulate-settings.ts";

export interface SourceFlags extends ClientFlags {
  readonly trace?: string;
  readonly labels?: string;
  readonly skipBadRows?: true;
}

/** A finished job of a history. Times are ms; null where it never came so far. */
export interface PastJob {
  readonly queuedAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly labels: readonly string[];
  readonly trust: TrustClass;
  readonly name: string;
  readonly repository: string;
  readonly conclusion: string;
}

export interface Source {
  /** What people would call it. */
  readonly name: string;
  readonly trace: Trace;
}

/** A CSV file, or what standard input brings. */
export async function traceOfFile(file: string, flags: SourceFlags): Promise<Source> {
  const isInput = file === "-";
  const input = isInput ? process.stdin : createReadStream(file);
  const name = isInput ? "standard input" : file;
  try {
    const trace = await readTrace(decoded(input, name), { file: name, ...rulesOf(flags) });
    return { name, trace };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "EISDIR" && code !== "EACCES") throw error;
    throw new MayflyError("not_found", `${file} cannot be read: ${(error as Error).message}`, {
      where: "--trace",
      hint: "Name a CSV file with a line a job, or - for standard input.",
    });
  }
}

async function* decoded(input: AsyncIterable<Buffer>, name: string): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    for await (const bytes of input) yield decoder.decode(bytes, { stream: true });
    yield decoder.decode();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_ENCODING_INVALID_ENCODED_DATA") throw error;
    throw new MayflyError("invalid", "the trace is not UTF-8 text", {
      where: name,
      hint: "Convert it: iconv -f latin1 -t utf-8",
    });
  }
}

function rulesOf({ labels, skipBadRows }: SourceFlags): {
  labels?: readonly string[];
  skipsBadRows: boolean;
} {
  const list = labels?.split(",").map((label) => label.trim());
  return { ...(list === undefined ? {} : { labels: list }), skipsBadRows: skipBadRows === true };
}

/** A history as a trace. Jobs that did not run are left out and counted. */
export async function traceOfJobs(
  name: string,
  jobs: AsyncIterable<PastJob> | Iterable<PastJob>,
  flags: SourceFlags,
): Promise<Source> {
  const builder = new TraceBuilder();
  const { labels: given } = rulesOf(flags);
  for await (const job of jobs) {
    const { queuedAt, startedAt, endedAt, trust } = job;
    if (startedAt === null || endedAt === null || endedAt < startedAt) {
      builder.leaveOut("never ran");
      continue;
    }
    const labels = given ?? job.labels;
    const kind = builder.kind(JSON.stringify([trust, labels]), () => ({ labels, trust }));
    builder.add(queuedAt, endedAt - startedAt, kind);
  }
  if (builder.count > 0) return { name, trace: builder.build() };
  throw new MayflyError("not_found", `${name} has no job that ran and ended`, {
    hint: "Give a trace with --trace: a CSV file with the columns queued_at,duration_s,labels.",
  });
}

export const header = "queued_at,started_at,ended_at,labels,trust,name,repository,conclusion\n";

/** Writes a history as a trace, and hands it on. */
export async function* saved(
  jobs: AsyncIterable<PastJob> | Iterable<PastJob>,
  file: string,
): AsyncGenerator<PastJob> {
  const output = createWriteStream(file, { mode: 0o600 });
  output.write(header);
  for await (const job of jobs) {
    if (!output.write(lineOf(job))) await once(output, "drain");
    yield job;
  }
  output.end();
  await once(output, "finish");
}

export function lineOf(job: PastJob): string {
  const time = (at: number | null): string => (at === null ? "" : new Date(at).toISOString());
  return `${[
    time(job.queuedAt),
    time(job.startedAt),
    time(job.endedAt),
    JSON.stringify(job.labels),
    job.trust,
    ...[job.name, job.repository, job.conclusion].map((text) => text.replaceAll(/\s+/g, " ")),
  ]
    .map(csvField)
    .join(",")}\n`;
}

/** Mayfly's own history, and how long its machines took to boot. */
export interface OwnHistory {
  readonly name: string;
  readonly jobs: AsyncIterable<PastJob> | Iterable<PastJob>;
  readonly measured: Measured;
}

/** The history in the state folder, read beside a server that may be running; null: there is none. */
export function localHistory(flags: SourceFlags): OwnHistory | null {
  const folder = flags.state === undefined ? defaultStateFolder(process.env) : resolve(flags.state);
  const file = join(folder, "mayfly.db");
  if (!existsSync(file)) return null;
  const db = new DatabaseSync(file, { readOnly: true, timeout: 5000 });
  const boots = db
    .prepare(
      `select provider, coalesce(up_at, started_at) - claimed_at as ms from runners
       where coalesce(up_at, started_at) is not null order by claimed_at desc limit ${measuredMax}`,
    )
    .all() as { provider: string; ms: number }[];
  const measured = new Map<string, number[]>();
  for (const { provider, ms } of boots) push(measured, provider, ms);
  return { name: `the history in ${folder}`, jobs: jobsIn(db), measured };
}

function* jobsIn(db: DatabaseSync): Generator<PastJob> {
  try {
    const rows = db
      .prepare(
        `select queued_at, started_at, ended_at, labels, trust, name, repository, outcome
         from jobs where state = 'ended' and pool is not null order by queued_at`,
      )
      .iterate();
    for (const row of rows as Iterable<Record<string, string | number | null>>) {
      yield {
        queuedAt: Number(row["queued_at"]),
        startedAt: row["started_at"] === null ? null : Number(row["started_at"]),
        endedAt: row["ended_at"] === null ? null : Number(row["ended_at"]),
        labels: JSON.parse(String(row["labels"])) as string[],
        trust: trustClasses.find((one) => one === row["trust"]) ?? "trusted",
        name: String(row["name"]),
        repository: String(row["repository"]),
        conclusion: String(row["outcome"] ?? ""),
      };
    }
  } finally {
    db.close();
  }
}

const pageSize = 500;
/** Machines whose boots are looked at: the latest tell enough. */
const measuredMax = 5000;

/** The history of a running Mayfly, by its API. */
export async function servedHistory(flags: SourceFlags): Promise<OwnHistory> {
  const client = new Client(flags, process.env);
  const measured = new Map<string, number[]>();
  let looked = 0;
  for await (const machine of pages<MachineView>(client, "machines", "")) {
    const upAt = machine.upAt ?? machine.startedAt;
    if (upAt !== null) push(measured, machine.provider, upAt - machine.claimedAt);
    if (++looked === measuredMax) break;
  }
  return { name: `the history of ${client.server.origin}`, jobs: servedJobs(client), measured };
}

async function* servedJobs(client: Client): AsyncGenerator<PastJob> {
  for await (const job of pages<JobView>(client, "jobs", "state=ended")) {
    if (job.pool !== null) yield { ...job, conclusion: job.outcome ?? "" };
  }
}

async function* pages<T>(client: Client, what: string, filter: string): AsyncGenerator<T> {
  let next: string | null = null;
  do {
    const query = new URLSearchParams(filter);
    query.set("limit", String(pageSize));
    if (next !== null) query.set("before", next);
    const path = `/v1/${what}?${query.toString()}`;
    const answer: Record<string, T[]> & { next: string | null } = await client.get(path);
    yield* answer[what] ?? [];
    next = answer.next;
  } while (next !== null);
}

function push(map: Map<string, number[]>, key: string, value: number): void {
  const values = map.get(key);
  if (values === undefined) map.set(key, [value]);
  else values.push(value);
}
