import type { KnownJob, RerunAnswer } from "../forge.ts";
import type { JobAnswer } from "./answers.ts";
import type { GiteaClient } from "./client.ts";
import { attemptOf, countsAtStart, stateOf } from "./sighting.ts";

const refused = (reason: string): RerunAnswer => ({ kind: "refused", reason });

/**
 * Has a job run again once all of its run is over; `others` of the same run with it. Since 1.27 the
 * new attempt is a job of its own, before it is the same one again: either tells that it was heard.
 */
export async function rerunJob(
  client: GiteaClient,
  version: string,
  known: KnownJob,
  others: readonly KnownJob[],
  signal: AbortSignal,
): Promise<RerunAnswer> {
  const { repository } = known;
  const isSameJob = countsAtStart(version);
  const job = await client.job(repository, known.externalId, signal);
  if (job === null) return refused("the server knows no such job any more");
  if (attemptOf(job, isSameJob) > known.attempt) return { kind: "asked" };
  if (stateOf(job) !== "ended") return { kind: "later", reason: "it is not over there" };
  const run = await client.run(repository, job.run_id, signal);
  if (run === null) return refused("the server knows no such run any more");
  if (!isSameJob && (run.run_attempt ?? 0) > job.run_attempt) return { kind: "asked" };
  // A runner that was shut down may make it `cancelled` too, as a person does: nobody can tell.
  if (job.conclusion !== "failure") return refused(`it ended as ${job.conclusion}`);
  if (run.status !== "completed") {
    return { kind: "later", reason: "other jobs of its run are not over yet" };
  }
  const isAlone = (await siblings(client, job, others, signal)) === 0;
  const which = { run: job.run_id, job: isAlone ? job.id : null };
  const status = await client.rerun(repository, which, signal);
  if (status < 300) return { kind: "asked" };
  if (status === 400 || status === 409) {
    return { kind: "later", reason: `the server does not yet (status ${status})` };
  }
  if (status === 403) return refused("the token may not: it needs to write to the repository");
  return refused(`the server cannot (status ${status}); Gitea 1.26 and newer can`);
}

async function siblings(
  client: GiteaClient,
  job: JobAnswer,
  others: readonly KnownJob[],
  signal: AbortSignal,
): Promise<number> {
  let count = 0;
  for (const { repository, externalId } of others) {
    const other = await client.job(repository, externalId, signal);
    if (other?.run_id === job.run_id && stateOf(other) === "ended") count++;
  }
  return count;
}
