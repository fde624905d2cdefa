import type { JobOutcome, JobSighting } from "../domain/job.ts";
import type { Runner } from "../domain/runner.ts";
import type { TrustClass } from "../domain/trust.ts";
import type { Registration } from "../forges/forge.ts";
import type { Chance } from "./chance.ts";
import type { SimClock } from "./clock.ts";
import type { ForgeRule } from "./forge-rules.ts";
import type { JobPlan } from "./scenario.ts";

/** A job as it truly stands at the forge. */
export interface ForgeJob {
  readonly plan: JobPlan;
  readonly attempt: number;
  readonly queuedAt: number;
  startedAt: number | null;
  endedAt: number | null;
  outcome: JobOutcome | null;
  runner: string | null;
}

/** A registration as it truly stands, kept when it is over so that a lagging list can show it. */
export interface ForgeRunner {
  readonly name: string;
  readonly labels: readonly string[];
  readonly accept: readonly TrustClass[];
  readonly madeAt: number;
  onlineAt: number | null;
  removedAt: number | null;
  job: ForgeJob | null;
  /** What its machine's guest is told: a job to run, or that the forge has let go of it. */
  tell: (news: ForgeJob | "removed") => void;
}

export interface ForgeParts {
  readonly name: string;
  readonly rule: ForgeRule;
  readonly clock: SimClock;
  readonly chance: Chance;
  readonly tell: (line: string) => void;
  /** Sends an event on its way to the manager. */
  readonly send: (sighting: JobSighting, where: string) => void;
}

/**
 * A forge as it is, seen by nobody: it queues jobs, gives each to any matching runner that is
 * online, and notices in its own time when a runner is gone.
 */
export class SimForge {
  readonly name: string;
  readonly rule: ForgeRule;
  readonly jobs: ForgeJob[] = [];
  readonly runners = new Map<string, ForgeRunner>();
  readonly #parts: ForgeParts;

  constructor(parts: ForgeParts) {
    this.#parts = parts;
    this.name = parts.name;
    this.rule = parts.rule;
  }

  /** Jobs that are not over. */
  open(): ForgeJob[] {
    return this.jobs.filter(({ endedAt }) => endedAt === null);
  }

  queue(plan: JobPlan, attempt = 1): ForgeJob {
    const { clock, tell } = this.#parts;
    const job: ForgeJob = {
      plan,
      attempt,
      queuedAt: clock.now(),
      startedAt: null,
      endedAt: null,
      outcome: null,
      runner: null,
    };
    this.jobs.push(job);
    tell(`job ${label(job)} waits for ${plan.labels.join(" ") || "any runner"} (${plan.trust})`);
    this.#show(job);
    this.#assignSoon();
    return job;
  }

  /** Somebody ends the job by hand. */
  cancel(job: ForgeJob): void {
    if (job.endedAt === null) this.#end(job, "cancelled");
  }

  register(runner: Runner, accept: readonly TrustClass[]): void {
    const known = this.runners.get(runner.name);
    // Asked again under one name, it is the same registration.
    if (known !== undefined && known.removedAt === null) return;
    this.runners.set(runner.name, {
      name: runner.name,
      labels: runner.labels,
      accept,
      madeAt: this.#parts.clock.now(),
      onlineAt: null,
      removedAt: null,
      job: null,
      tell: () => {},
    });
  }

  /** A machine's runner connects. False: the forge knows no such runner (any more). */
  connect(name: string, tell: ForgeRunner["tell"]): boolean {
    const runner = this.runners.get(name);
    if (runner === undefined || runner.removedAt !== null || runner.onlineAt !== null) return false;
    runner.onlineAt = this.#parts.clock.now();
    runner.tell = tell;
    this.#parts.tell(`runner ${name} is online`);
    this.#assignSoon();
    return true;
  }

  /** Its machine is dead; the forge notices later. */
  disconnect(name: string): void {
    const runner = this.runners.get(name);
    if (runner === undefined || runner.removedAt !== null) return;
    runner.tell = () => {};
    const { clock, tell } = this.#parts;
    clock.after(this.rule.noticesAfterMs, () => {
      const { job } = runner;
      if (runner.removedAt !== null) return;
      // One that had no job yet stays on the list, offline, until somebody removes it.
      runner.onlineAt = null;
      if (job === null || job.endedAt !== null) return;
      tell(`the forge notices that runner ${name} is dead`);
      this.#end(job, "failure");
      if (this.rule.lostJob === "requeued") this.queue(job.plan, job.attempt + 1);
    });
  }

  /** The runner reports the end of its job, and is one job's runner no more. */
  finish(name: string): void {
    const runner = this.runners.get(name);
    if (runner?.job == null || runner.removedAt !== null) return;
    runner.removedAt = this.#parts.clock.now();
    if (runner.job.endedAt === null) this.#end(runner.job, "success");
  }

  /** Somebody runs it again: another attempt of the same job. */
  rerun(job: ForgeJob): void {
    if (this.jobs.some(({ plan, attempt }) => plan === job.plan && attempt > job.attempt)) return;
    if (job.endedAt !== null) this.queue(job.plan, job.attempt + 1);
  }

  remove(name: string): "gone" | "busy" {
    const runner = this.runners.get(name);
    if (runner === undefined || runner.removedAt !== null) return "gone";
    if (runner.job !== null && runner.job.endedAt === null) return "busy";
    runner.removedAt = this.#parts.clock.now();
    runner.tell("removed");
    return "gone";
  }

  /** What waited and ran at `at`, and what had ended no longer ago than the forge tells. */
  jobsAt(at: number): JobSighting[] {
    return this.jobs
      .filter(({ queuedAt }) => queuedAt <= at)
      .map((job) => this.sighting(job, at))
      .filter(({ endedAt }) => endedAt === null || at - endedAt < this.rule.showsEndedForMs);
  }

  /** One job as it stood at `at`; null: the forge knows no such job. */
  jobAt(externalId: string, attempt: number, at: number): JobSighting | null {
    const job = this.jobs.find(
      (one) => one.plan.id === externalId && one.attempt === attempt && one.queuedAt <= at,
    );
    return job === undefined ? null : this.sighting(job, at);
  }

  registrationsAt(at: number): Registration[] {
    return [...this.runners.values()]
      .filter(({ madeAt, removedAt }) => madeAt <= at && (removedAt === null || removedAt > at))
      .map(({ name, onlineAt }) => ({
        name,
        id: name,
        online: onlineAt !== null && onlineAt <= at,
      }));
  }

  sighting(job: ForgeJob, at: number): JobSighting {
    const ended = job.endedAt !== null && job.endedAt <= at;
    const started = job.startedAt !== null && job.startedAt <= at;
    return {
      forge: this.name,
      externalId: job.plan.id,
      attempt: job.attempt,
      state: ended ? "ended" : started ? "started" : "waiting",
      outcome: ended ? job.outcome : null,
      name: `job ${job.plan.id}`,
      repository: "acme/widget",
      labels: job.plan.labels,
      trust: job.plan.trust,
      url: null,
      runner: started ? job.runner : null,
      queuedAt: job.queuedAt,
      startedAt: started ? job.startedAt : null,
      endedAt: ended ? job.endedAt : null,
      work: null,
    };
  }

  #assignSoon(): void {
    const { clock, chance } = this.#parts;
    const where = `assign/${this.jobs.length}/${this.runners.size}/${clock.now()}`;
    clock.after(chance.between(where, 0, this.rule.assignsWithinMs), () => this.#assign());
  }

  /** Every job that waits gets any one of the runners that match, not the one made for it. */
  #assign(): void {
    const { clock, chance, tell } = this.#parts;
    for (const job of this.jobs) {
      if (job.startedAt !== null || job.endedAt !== null) continue;
      const able = [...this.runners.values()].filter(
        (runner) =>
          runner.onlineAt !== null &&
          runner.removedAt === null &&
          runner.job === null &&
          runner.accept.includes(job.plan.trust) &&
          this.rule.match(job.plan.labels, runner.labels),
      );
      if (able.length === 0) continue;
      const runner = chance.pick(`runner/${label(job)}`, able);
      runner.job = job;
      job.runner = runner.name;
      job.startedAt = clock.now();
      tell(`job ${label(job)} starts on ${runner.name}`);
      this.#show(job);
      runner.tell(job);
    }
  }

  #end(job: ForgeJob, outcome: JobOutcome): void {
    const { clock, tell } = this.#parts;
    job.endedAt = clock.now();
    job.outcome = outcome;
    tell(`job ${label(job)} ends: ${outcome}`);
    const runner = job.runner === null ? undefined : this.runners.get(job.runner);
    if (runner !== undefined) {
      runner.removedAt ??= clock.now();
      runner.tell("removed");
    }
    this.#show(job);
  }

  #show(job: ForgeJob): void {
    const sighting = this.sighting(job, this.#parts.clock.now());
    this.#parts.send(sighting, `${label(job)}/${sighting.state}`);
  }
}

export function label({ plan, attempt }: ForgeJob): string {
  return attempt === 1 ? plan.id : `${plan.id}.${attempt}`;
}
