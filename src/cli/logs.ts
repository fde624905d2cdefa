import { exit } from "./exit.ts";
import { Client } from "./client.ts";
import type { ClientFlags } from "./program.ts";
import { findJob } from "./find.ts";
import { followLog, jsonSink, plainSink, readLog, timedSink } from "./log-stream.ts";
import { note } from "./terminal.ts";

export interface LogsFlags extends ClientFlags {
  readonly follow?: true;
  readonly timestamps?: true;
}

/** `mayfly logs`: a job's output so far, or with `--follow` to its end. */
export async function run(given: string, flags: LogsFlags): Promise<number> {
  const client = new Client(flags, process.env);
  const job = await findJob(client, given);
  const sink = flags.json
    ? jsonSink(process.stdout)
    : flags.timestamps
      ? timedSink(process.stdout, process.stderr)
      : plainSink(process.stdout, process.stderr);

  if (!flags.follow) {
    if (job.state === "waiting") {
      note(`mayfly: ${job.id} waits and has said nothing yet; \`mayfly why ${job.id}\` says why`);
    }
    for await (const frame of readLog(client, job.id)) await sink.show(frame);
    await sink.end();
    return exit.ok;
  }
  const lost = () => note(`mayfly: the server is gone; trying to find it again`);
  for await (const frame of followLog(client, job.id, new AbortController().signal, lost)) {
    await sink.show(frame);
  }
  await sink.end();
  return exit.ok;
}
