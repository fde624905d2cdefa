import type { JobSighting } from "../domain/job.ts";
import { jobId } from "../domain/job.ts";
import type { ForgeContext } from "./context.ts";

const longestWaitMs = 24 * 3600 * 1000;

/**
 * Ends jobs that a forge has shown waiting for a day: their run was lost, they are held by a limit
 * that nobody lifts, or no runner may ever take them. Counted from when we first saw them wait, since
 * a job that runs again keeps the time of its making.
 */
export class Aging {
  readonly #context: Pick<ForgeContext, "now" | "log" | "name">;
  #since = new Map<string, number>();

  constructor(context: Pick<ForgeContext, "now" | "log" | "name">) {
    this.#context = context;
  }

  /** Takes all that one poll showed; what it did not show has stopped waiting. */
  judge(shown: readonly JobSighting[]): readonly JobSighting[] {
    const { now, log, name } = this.#context;
    const since = new Map<string, number>();
    const at = now();
    const judged = shown.map((job): JobSighting => {
      if (job.state !== "waiting") return job;
      const id = jobId(job.forge, job.externalId, job.attempt);
      const first = this.#since.get(id) ?? at;
      since.set(id, first);
      if (at - first < longestWaitMs) return job;
      // Told once: from then on it is known to be over.
      if (Number.isFinite(first)) {
        log.warn({ forge: name, job: id }, "it has waited for a day and is given up");
        since.set(id, -Infinity);
      }
      return { ...job, state: "ended", outcome: "lost", endedAt: at };
    });
    this.#since = since;
    return judged;
  }
}
