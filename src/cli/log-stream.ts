import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../domain/errors.ts";
import type { JobOutcome } from "../domain/job.ts";
import { LineReader } from "../web/loglines.ts";
import type { LogFrameView } from "../web/views.ts";
import type { Client } from "./client.ts";
import { jobPath } from "./find.ts";
import { painter, write, type Output } from "./terminal.ts";

/** How a job ended, as the stream of its log says at its end. */
export interface JobEnd {
  readonly outcome: JobOutcome | null;
  readonly exitCode: number | null;
}

/** A server that restarts is back sooner; one that is not back by then is given up. */
const outageMaxMs = 5 * 60_000;
const pauseMaxMs = 5_000;

/**
 * A job's output as it comes, to its end. A server that goes away is asked again where the stream
 * broke, so nothing is lost or shown twice. `lost` is told once an outage.
 */
export async function* followLog(
  client: Client,
  id: string,
  signal: AbortSignal,
  lost: () => void,
): AsyncGenerator<LogFrameView, JobEnd> {
  let lastId: string | null = null;
  let outageAt: number | null = null;
  let pauseMs = 200;
  for (;;) {
    try {
      for await (const event of await client.events(
        `${jobPath(id)}/log?follow=true`,
        lastId,
        signal,
      )) {
        [outageAt, pauseMs] = [null, 200];
        if (event.event === "end") return JSON.parse(event.data) as JobEnd;
        if (event.event !== "frame") continue;
        lastId = event.id;
        yield JSON.parse(event.data) as LogFrameView;
      }
    } catch (error) {
      if (signal.aborted || !isOutage(error)) throw error;
      if (outageAt === null) lost();
      outageAt ??= Date.now();
      if (Date.now() - outageAt > outageMaxMs) throw error;
    }
    await sleep(pauseMs, undefined, { signal });
    pauseMs = Math.min(2 * pauseMs, pauseMaxMs);
  }
}

/** No answer, or a stream that broke: not one of our refusals. */
function isOutage(error: unknown): boolean {
  return !(error instanceof MayflyError) || error.code === "unavailable";
}

/** What a job has said so far. */
export async function* readLog(client: Client, id: string): AsyncGenerator<LogFrameView> {
  let after: number | null = -1;
  while (after !== null) {
    const page: { frames: LogFrameView[]; next: number | null } = await client.get(
      `${jobPath(id)}/log?format=json&after=${after}`,
    );
    yield* page.frames;
    after = page.next;
  }
}

export function bytesOf(frame: LogFrameView): Buffer {
  return frame.base64 === undefined
    ? Buffer.from(frame.text ?? "", "utf8")
    : Buffer.from(frame.base64, "base64");
}

/** Shows frames: the job's two streams each on a descriptor of its own, Mayfly's words beside. */
export interface LogSink {
  show(frame: LogFrameView): Promise<void>;
  end(): Promise<void>;
}

/** Byte for byte as the job wrote them. */
export function plainSink(stdout: Output, stderr: Output): LogSink {
  const paint = painter(stderr);
  return {
    show: (frame) => {
      const bytes = bytesOf(frame);
      if (frame.stream !== "mayfly")
        return write(frame.stream === "stdout" ? stdout : stderr, bytes);
      return write(stderr, paint("dim", bytes.toString("utf8")));
    },
    end: async () => {},
  };
}

/** By lines, each with its time. */
export function timedSink(stdout: Output, stderr: Output): LogSink {
  const lines = new LineReader();
  const showLines = async (ready: ReturnType<LineReader["push"]>): Promise<void> => {
    for (const { at, stream, text } of ready) {
      const output = stream === "stdout" ? stdout : stderr;
      const time = painter(output)("dim", new Date(at).toISOString());
      await write(output, `${time} ${text}\n`);
    }
  };
  return {
    show: (frame) => showLines(lines.push({ ...frame, bytes: bytesOf(frame) })),
    end: () => showLines(lines.unfinished()),
  };
}

/** As lines of JSON, in the API's shape. */
export function jsonSink(stdout: Output): LogSink {
  return {
    show: (frame) => write(stdout, `${JSON.stringify(frame)}\n`),
    end: async () => {},
  };
}
