import { setTimeout as sleep } from "node:timers/promises";
import type { JobOutcome } from "../domain/job.ts";
import { formatUsd } from "../domain/money.ts";
import { MayflyError } from "../domain/errors.ts";
import type { JobView } from "../web/views.ts";
import type { Why } from "../web/why.ts";
import { duration } from "../web/words.ts";
import type { Client } from "./client.ts";
import { exit, exitOfJob } from "./exit.ts";
import { jobPath } from "./find.ts";
import { followLog, plainSink } from "./log-stream.ts";
import { clean, note, painter, print, StatusLine } from "./terminal.ts";

/** How often it is asked why a job still waits. */
const askMs = 1_000;

/**
 * Follows a job to its end: its output as it comes, each stream on a descriptor of its own, and
 * beside it on standard error what happens to the job. Returns the exit status. SIGINT or SIGTERM
 * cancels the job and goes on to its end; a second one leaves at once.
 */
export async function waitForJob(client: Client, job: JobView, isJson: boolean): Promise<number> {
  const status = new StatusLine(process.stderr);
  const say = (line: string): void => {
    status.clear();
    note(painter(process.stderr)("dim", `mayfly: ${clean(line)}`));
  };
  say(`${job.id}: ${job.reason}`);
  const stopListening = cancelOnSignal(client, job.id, say);
  const silence = new AbortController();
  const telling = tellWhy(client, job.id, status, say, silence.signal);
  try {
    // With --json, standard output is the job's description alone.
    const sink = plainSink(isJson ? process.stderr : process.stdout, process.stderr);
    const lost = () => say("the server is gone; the job goes on, and so do we once it is back");
    const never = new AbortController().signal;
    for await (const frame of followLog(client, job.id, never, lost)) {
      silence.abort();
      status.clear();
      await sink.show(frame);
    }
    await sink.end();
  } finally {
    silence.abort();
    await telling;
    status.clear();
    stopListening();
  }
  const ended = await client.get<JobView>(jobPath(job.id));
  say(ending(ended));
  if (isJson) await print(JSON.stringify(ended));
  return exitOfJob(ended);
}

/** Until the job speaks for itself: on a terminal one live line, in a pipe a line a change. */
async function tellWhy(
  client: Client,
  id: string,
  status: StatusLine,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let told = "";
  while (!signal.aborted) {
    const summary = await client
      .get<Why>(`/v1/why/${encodeURIComponent(id)}`)
      .then(({ summary, state }) => (state === "ended" ? null : summary))
      // Whether the server is there is for whoever follows the log to say.
      .catch(() => null);
    if (signal.aborted) return;
    // Times in it pass by themselves, and are no news.
    const news = (summary ?? told).replace(/\d+/g, "#");
    if (summary !== null && status.isLive) status.show(`${id}: ${clean(summary)}`);
    else if (summary !== null && news !== told) say(`${id}: ${summary}`);
    told = news;
    await sleep(askMs, undefined, { signal }).catch(() => {});
  }
}

function cancelOnSignal(client: Client, id: string, say: (line: string) => void): () => void {
  let asked = false;
  const onSignal = (): void => {
    if (asked) {
      say(`left; ${id} is still being cancelled`);
      process.exit(exit.interrupted);
    }
    asked = true;
    say(`cancelling ${id}; once more to leave at once`);
    client
      .post(`${jobPath(id)}/cancel`, { reason: "cancelled by whoever waited for it" })
      .catch((error: unknown) => {
        // Over already: then its end is on its way to us.
        if (error instanceof MayflyError && error.code === "conflict") return;
        say(`it could not be cancelled: ${error instanceof Error ? error.message : String(error)}`);
      });
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  return () => process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
}

const endings: Readonly<Record<JobOutcome, string>> = {
  success: "succeeded",
  failure: "failed",
  cancelled: "was cancelled",
  skipped: "was skipped",
  timed_out: "timed out",
  lost: "was lost: its machine vanished",
  refused: "was refused",
  error: "could not be prepared",
};

/** `native-k3f9 failed with status 2 in 12 s, on m-default-9x2 ($0.0012)`. */
export function ending(job: JobView): string {
  const { outcome, exitCode, startedAt, endedAt, machine, costMicroUsd } = job;
  const status = exitCode === null || exitCode === 0 ? "" : ` with status ${exitCode}`;
  const time = startedAt === null || endedAt === null ? "" : ` in ${duration(endedAt - startedAt)}`;
  const place = machine === null ? "" : `, on ${machine}`;
  const money = costMicroUsd === null || costMicroUsd === 0 ? "" : ` (${formatUsd(costMicroUsd)})`;
  const isTold = outcome === "success" || outcome === "failure" || outcome === "cancelled";
  const why = isTold || job.reason === "" ? "" : `: ${job.reason}`;
  const how = outcome === null ? "ended" : endings[outcome];
  return `${job.id} ${how}${status}${time}${place}${money}${why}`;
}
