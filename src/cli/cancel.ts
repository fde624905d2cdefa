import type { JobView } from "../web/views.ts";
import { Client } from "./client.ts";
import { exit } from "./exit.ts";
import { findJob, jobPath } from "./find.ts";
import type { ClientFlags } from "./program.ts";
import { print } from "./terminal.ts";

/** `mayfly cancel`: at once when the job waits, by its machine when it runs. */
export async function run(given: string, flags: ClientFlags): Promise<number> {
  const client = new Client(flags, process.env);
  const { id } = await findJob(client, given);
  const reason = "cancelled on the command line";
  const job = await client.post<JobView>(`${jobPath(id)}/cancel`, { reason });
  if (flags.json) await print(JSON.stringify(job));
  else if (job.state === "ended") await print(`${id} is cancelled`);
  else await print(`${id} is asked to end; see how: mayfly why ${id}`);
  return exit.ok;
}
