import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { JobSighting, JobState } from "../../../domain/job.ts";
import type { TrustClass } from "../../../domain/trust.ts";
import { BoundedMap } from "../../bounded-map.ts";
import type { ForgeLog } from "../../context.ts";
import type { RunTrust } from "../trust.ts";
import { isRefusal, isUnauthorized, type ScaleSetClient } from "./scale-set.ts";
import { outcomeOf, readJobs, type JobMessage, type Message, type Session } from "./shapes.ts";

export interface ListenerParts {
  readonly forge: string;
  readonly client: ScaleSetClient;
  readonly trust: RunTrust;
  /** What a job asks for that names no label. */
  readonly name: string;
  /** Whether the forge is for this repository. */
  readonly isOurs: (repository: string) => boolean;
  readonly now: () => number;
  readonly log: ForgeLog;
  /** How long to leave it be while another's session lives. */
  readonly conflictMs?: number;
}

export type Tell = (sightings: readonly JobSighting[]) => Promise<void>;

const closeMs = 5_000;
const conflictMs = 90_000;
const jobsMax = 20_000;
const states: Readonly<Record<string, JobState>> = {
  JobAssigned: "waiting",
  JobStarted: "started",
  JobCompleted: "ended",
};

/**
 * Listens to a scale set's queue: no forge has to reach us for that, and no list has to be asked for.
 * One session at a time may; who holds the forge's lease does.
 */
export class ScaleSetListener {
  readonly #parts: ListenerParts;
  /** Jobs that were assigned or started and not completed yet. */
  readonly #open = new Map<string, JobSighting>();
  /** Which assignment of a job this is: one that nobody picked up comes again under its id. */
  readonly #attempts = new BoundedMap<string, number>(jobsMax);

  constructor(parts: ListenerParts) {
    this.#parts = parts;
  }

  /** What its messages have told and not ended. */
  get open(): readonly JobSighting[] {
    return [...this.#open.values()];
  }

  /** Known by another way to wait or run still. */
  remember(sighting: JobSighting): void {
    if (this.#open.size < jobsMax) this.#open.set(sighting.externalId, sighting);
  }

  /** Until `signal` aborts. Throws `MayflyError` when the service refuses or is out of reach. */
  async listen(tell: Tell, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const session = await this.#opened(signal);
      if (session === null) continue;
      const held = { session };
      try {
        await this.#hear(held, tell, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (isRefusal(error, "SessionExpired")) continue;
        // Also seen in outages: the next round looks for the scale set anew and deletes nothing.
        if (isRefusal(error, "RunnerScaleSetNotFound")) this.#parts.client.forget();
        throw error;
      } finally {
        await this.#close(held.session);
      }
    }
  }

  /** Null: another's session lives, and its time was waited for. */
  async #opened(signal: AbortSignal): Promise<Session | null> {
    const { client, log, forge } = this.#parts;
    try {
      return await client.open(signal);
    } catch (error) {
      if (!isRefusal(error, "SessionConflict")) throw error;
      const seconds = Math.round((this.#parts.conflictMs ?? conflictMs) / 1000);
      log.warn(
        { forge, seconds },
        "somebody else listens to the scale set; it is left for a while",
      );
      await sleep(this.#parts.conflictMs ?? conflictMs, undefined, { signal }).catch(() => {});
      return null;
    }
  }

  async #hear(held: { session: Session }, tell: Tell, signal: AbortSignal): Promise<void> {
    const { client } = this.#parts;
    this.#learn(held.session.statistics);
    let last = 0;
    // Each call again once after its token was refreshed: the queue's is good for an hour or so.
    const refreshing = async <T>(call: (session: Session) => Promise<T>): Promise<T> => {
      try {
        return await call(held.session);
      } catch (error) {
        if (!isUnauthorized(error)) throw error;
        held.session = await client.refreshed(held.session, signal);
        return call(held.session);
      }
    };
    while (!signal.aborted) {
      const message = await refreshing((session) => client.next(session, last, signal));
      if (message === null) continue;
      last = message.messageId;
      const jobs = this.#jobsOf(message);
      const offered = jobs
        .filter(({ messageType, runnerRequestId }) => {
          return messageType === "JobAvailable" && runnerRequestId > 0;
        })
        .map(({ runnerRequestId }) => runnerRequestId);
      if (offered.length > 0) {
        await refreshing((session) => client.acquire(session, offered, signal));
      }
      const sightings: JobSighting[] = [];
      for (const job of jobs) sightings.push(...(await this.#sighting(job)));
      // Stored before it is acknowledged: what we forget now would never come again.
      if (sightings.length > 0) await tell(sightings);
      this.#learn(message.statistics);
      await refreshing((session) => client.acknowledge(session, message.messageId, signal));
    }
  }

  #jobsOf({ messageType, body, messageId }: Message): readonly JobMessage[] {
    if (messageType !== "RunnerScaleSetJobMessages") return [];
    try {
      return readJobs(body);
    } catch (error) {
      const { log, forge } = this.#parts;
      log.warn({ forge, messageId, error: String(error) }, "a message of the scale set is no list");
      return [];
    }
  }

  async #sighting(job: JobMessage): Promise<readonly JobSighting[]> {
    const state = states[job.messageType];
    const repository = `${job.ownerName}/${job.repositoryName}`;
    if (state === undefined || job.jobId === "" || !this.#parts.isOurs(repository)) return [];
    const { forge, now, name } = this.#parts;
    const externalId = idOf(job);
    const attempt = this.#attempts.get(externalId) ?? 1;
    const runner = state === "waiting" || !job.runnerName ? null : job.runnerName;
    const outcome = state === "ended" ? outcomeOf(job.result) : null;
    const sighting: JobSighting = {
      forge,
      externalId,
      attempt,
      state,
      outcome,
      name: job.jobDisplayName,
      repository,
      labels: job.requestLabels.length === 0 ? [name] : job.requestLabels,
      trust: state === "waiting" ? await this.#trustOf(job, repository) : "fork",
      url: null,
      runner,
      queuedAt: job.queueTime ?? now(),
      startedAt: state === "waiting" ? null : job.runnerAssignTime,
      endedAt: state === "ended" ? (job.finishTime ?? now()) : null,
      work: null,
    };
    if (state !== "ended") this.remember(sighting);
    else {
      this.#open.delete(externalId);
      // Nobody picked it up in time: it is assigned again, which is another attempt to us.
      if (outcome === "cancelled" && runner === null) this.#attempts.set(externalId, attempt + 1);
    }
    return [sighting];
  }

  /** Only a pull request's code may be another repository's; when nobody can say, it is. */
  async #trustOf(job: JobMessage, repository: string): Promise<TrustClass> {
    if (!job.eventName.startsWith("pull_request")) return job.eventName === "" ? "fork" : "trusted";
    return this.#parts.trust.find(repository, job.workflowRunId).catch(() => "fork" as const);
  }

  /** The service's counts are the truth: with no job left there, none is open here. */
  #learn(statistics: Session["statistics"]): void {
    if (!statistics) return;
    const { totalAssignedJobs, totalRunningJobs } = statistics;
    if (totalAssignedJobs === 0 && totalRunningJobs === 0) this.#open.clear();
  }

  /** Else the service takes it for alive, and nobody else can listen for minutes. */
  async #close(session: Session): Promise<void> {
    const { client, log, forge } = this.#parts;
    await client.close(session, AbortSignal.timeout(closeMs)).catch((error: unknown) => {
      log.warn({ forge, error: String(error) }, "the scale set's session could not be closed");
    });
  }
}

const idPattern = /^s([0-9]+)-[A-Za-z0-9-]+$/;

/** By the run too, since a job's id is one of the service's that the API does not know. */
function idOf({ workflowRunId, jobId }: JobMessage): string {
  const id = `s${workflowRunId}-${jobId}`;
  if (idPattern.test(id) && id.length <= 80) return id;
  return `s${workflowRunId}-${createHash("sha256").update(jobId).digest("hex").slice(0, 32)}`;
}

/** The run that such a job is of; null for a job that the API knows by its id. */
export function runOf(externalId: string): number | null {
  const run = idPattern.exec(externalId)?.[1];
  return run === undefined ? null : Number(run);
}
