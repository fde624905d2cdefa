import { html } from "hono/html";
import { logOf, logTail, readLog, type LogFrame } from "../../store/logs.ts";
import { findJob } from "../../store/questions.ts";
import type { Database } from "../../store/store.ts";
import { LineReader, type LogLine } from "../loglines.ts";
import { heartbeatMs, pause, type StreamEvent, type Watch } from "../sse.ts";
import { exactTime } from "../words.ts";
import { paint, plainLook, type Look } from "./ansi.ts";
import type { Html } from "./parts.ts";

/*
 * A job's log on its page: the end of it first, further parts as they come, and never more than a
 * browser likes to hold.
 */

const framesAtOnce = 50;
/** So much output is on the page at first; the rest is a link away. */
const windowBytes = 128_000;
const gatherMs = 150;

export interface LogWindow {
  readonly frames: readonly LogFrame[];
  /** Where the part before this one ends; null: this is the beginning. */
  readonly earlier: number | null;
  /** Whether the log's present end is in it. */
  readonly isEnd: boolean;
}

/** The last part of a log, or the last part before a frame. */
export async function logWindow(
  db: Database,
  job: string,
  before: number | null,
): Promise<LogWindow> {
  let frames: LogFrame[] =
    before === null
      ? await logTail(db, job, framesAtOnce)
      : await readLog(db, job, Math.max(-1, before - framesAtOnce - 1), framesAtOnce);
  if (before !== null) frames = frames.filter(({ seq }) => seq < before);
  let bytes = lengthOf(frames);
  for (;;) {
    const first = frames[0]?.seq ?? 0;
    if (first <= 0 || bytes >= windowBytes) break;
    const more = await readLog(db, job, Math.max(-1, first - framesAtOnce - 1), framesAtOnce);
    const older = more.filter(({ seq }) => seq < first);
    if (older.length === 0) break;
    frames = [...older, ...frames];
    bytes += lengthOf(older);
  }
  while (bytes > windowBytes && frames.length > 1) {
    bytes -= frames[0]?.bytes.length ?? 0;
    frames = frames.slice(1);
  }
  const first = frames[0]?.seq;
  const [oldest] = await readLog(db, job, -1, 1);
  const hasEarlier = first !== undefined && oldest !== undefined && oldest.seq < first;
  return { frames, earlier: hasEarlier ? first : null, isEnd: before === null };
}

function lengthOf(frames: readonly LogFrame[]): number {
  return frames.reduce((sum, { bytes }) => sum + bytes.length, 0);
}

/** Turns frames into list items, remembering half lines and colours between them. */
export class LogPainter {
  readonly #lines = new LineReader();
  readonly #looks = new Map<LogFrame["stream"], Look>();
  readonly #startedAt: number | null;
  #firstAt: number | null = null;

  constructor(startedAt: number | null) {
    this.#startedAt = startedAt;
  }

  push(frames: readonly LogFrame[]): Html[] {
    const items: Html[] = [];
    for (const frame of frames) {
      this.#firstAt ??= frame.at;
      for (const line of this.#lines.push(frame)) items.push(this.#item(line));
    }
    return items;
  }

  unfinished(): Html[] {
    return this.#lines.unfinished().map((line) => this.#item(line));
  }

  #item(line: LogLine): Html {
    const painted = paint(line.text, this.#looks.get(line.stream) ?? plainLook);
    if (line.isWhole) this.#looks.set(line.stream, painted.look);
    const offset = line.at - (this.#startedAt ?? this.#firstAt ?? line.at);
    return html`<li class="${line.stream}">
      <time datetime="${new Date(line.at).toISOString()}" title="${exactTime(line.at)}"
        >${offsetText(offset)}</time
      ><span class="stream">${line.stream === "stderr" ? "err" : ""}</span
      ><code>${painted.html}</code>
    </li>`;
  }
}

/** Since the job started: `03:07.4`, with hours when there are any. */
function offsetText(ms: number): string {
  const tenths = Math.floor(Math.max(0, ms) / 100);
  const seconds = Math.floor(tenths / 10);
  const two = (value: number): string => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const clock = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${tenths % 10}`;
  return hours === 0 ? clock : `${hours}:${clock}`;
}

/**
 * The live log: first the end of what there is (after a break in the line, all of that anew), then
 * what comes, and what is still unfinished; at last `end`.
 */
export async function* followPainted(
  db: Database,
  id: string,
  watch: Watch,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent | null, void, undefined> {
  let job = await findJob(db, id);
  const painter = new LogPainter(job?.startedAt ?? null);
  const { frames } = await logWindow(db, job === null ? id : logOf(job), null);
  yield { event: "tail", data: await joined(painter.push(frames)) };
  yield { event: "rest", data: await joined(painter.unfinished()) };
  let seq = frames.at(-1)?.seq ?? -1;
  while (!signal.aborted) {
    job = await findJob(db, id);
    const more = await readLog(db, job === null ? id : logOf(job), seq, framesAtOnce);
    seq = more.at(-1)?.seq ?? seq;
    const lines = painter.push(more);
    if (lines.length > 0) yield { event: "lines", data: await joined(lines) };
    if (more.length > 0) yield { event: "rest", data: await joined(painter.unfinished()) };
    if (more.length === framesAtOnce) continue;
    if (job === null || job.state === "ended") {
      yield { event: "end", data: "" };
      return;
    }
    if (await watch.next(heartbeatMs, signal)) await pause(gatherMs, signal);
    else yield null;
  }
}

async function joined(items: readonly Html[]): Promise<string> {
  return (await html`${items}`).toString().replaceAll("\n", " ");
}
