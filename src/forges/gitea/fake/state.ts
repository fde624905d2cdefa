import { randomBytes } from "node:crypto";

/* What a played Gitea holds, and the rules by which its state changes. */

/** As in Gitea's database; the API has other words for them. */
export type FakeStatus =
  "blocked" | "waiting" | "running" | "success" | "failure" | "cancelled" | "skipped";

export interface FakeRun {
  readonly id: number;
  readonly repository: string;
  readonly event: string;
  readonly ref: string;
}

export interface FakeJob {
  readonly id: number;
  readonly run: FakeRun;
  readonly name: string;
  readonly labels: readonly string[] | null;
  attempt: number;
  status: FakeStatus;
  runnerId: number;
  readonly createdAt: number;
  startedAt: number;
  stoppedAt: number;
}

export interface FakeRunner {
  readonly id: number;
  readonly uuid: string;
  readonly token: string;
  readonly name: string;
  readonly labels: readonly string[];
  readonly isEphemeral: boolean;
  isDisabled: boolean;
  /** What the server says of it, which is seldom how it is. */
  status: "online" | "offline";
  busy: boolean;
}

/** `isGone`: its repository was deleted. `flow`: pushed to `refs/for`, by whoever may read. */
export interface FakePull {
  readonly number: number;
  readonly from: "branch" | "fork" | "deleted" | "flow";
}

export interface FakeGiteaRules {
  /** 1.26 counts attempts when they start; 1.25 cannot disable runners. */
  readonly version: string;
  readonly now: () => number;
}

export class FakeGiteaState {
  readonly rules: FakeGiteaRules;
  readonly runs = new Map<number, FakeRun>();
  readonly jobs = new Map<number, FakeJob>();
  readonly runners = new Map<number, FakeRunner>();
  readonly pulls = new Map<number, FakePull>();
  readonly registrationToken = randomBytes(20).toString("hex");
  /** Everything secret that was ever given out. */
  readonly secrets: string[] = [this.registrationToken];
  #next = 100;

  constructor(rules: FakeGiteaRules) {
    this.rules = rules;
  }

  get isLegacy(): boolean {
    return /^1\.2[0-6]\./.test(this.rules.version);
  }

  get canDisable(): boolean {
    return !/^1\.2[0-5]\./.test(this.rules.version);
  }

  get canRerun(): boolean {
    return this.canDisable;
  }

  addRun(run: Omit<FakeRun, "id">): FakeRun {
    const added = { ...run, id: this.#next++ };
    this.runs.set(added.id, added);
    return added;
  }

  addPull(from: FakePull["from"]): FakePull {
    const pull = { number: this.#next++, from };
    this.pulls.set(pull.number, pull);
    return pull;
  }

  addJob(run: FakeRun, labels: readonly string[] | null, status: FakeStatus = "waiting"): FakeJob {
    const job: FakeJob = {
      id: this.#next++,
      run,
      name: `job-${this.#next}`,
      labels,
      attempt: this.isLegacy ? 0 : 1,
      status,
      runnerId: 0,
      createdAt: this.rules.now(),
      startedAt: 0,
      stoppedAt: 0,
    };
    this.jobs.set(job.id, job);
    return job;
  }

  register(name: string, labels: readonly string[], isEphemeral: boolean): FakeRunner {
    const runner: FakeRunner = {
      id: this.#next++,
      uuid: `0000-${this.#next}`,
      token: randomBytes(20).toString("hex"),
      name,
      labels,
      isEphemeral,
      isDisabled: false,
      status: "offline",
      busy: false,
    };
    this.runners.set(runner.id, runner);
    this.secrets.push(runner.token);
    return runner;
  }

  /** Whether the server would give this job to this runner. */
  mayTake(job: FakeJob, runner: FakeRunner): boolean {
    const had = [...this.jobs.values()].some(({ runnerId }) => runnerId === runner.id);
    const fits = (job.labels ?? []).every((label) => runner.labels.includes(label));
    return job.status === "waiting" && fits && !runner.isDisabled && !(runner.isEphemeral && had);
  }

  start(job: FakeJob, runner: FakeRunner): void {
    if (!this.mayTake(job, runner)) throw new Error(`runner ${runner.name} may not take the job`);
    if (this.isLegacy) job.attempt++;
    job.status = "running";
    job.runnerId = runner.id;
    job.startedAt = this.rules.now();
    runner.status = "online";
  }

  /** The runner's registration goes with its one job. */
  end(job: FakeJob, status: FakeStatus): void {
    job.status = status;
    job.stoppedAt = this.rules.now();
    if (this.runners.get(job.runnerId)?.isEphemeral === true) this.runners.delete(job.runnerId);
  }

  isOver(run: FakeRun): boolean {
    const open = ["blocked", "waiting", "running"];
    const jobs = [...this.jobs.values()].filter((job) => job.run === run);
    return jobs.every(({ status }) => !open.includes(status));
  }

  /** Until 1.26 the same job again; since 1.27 another. */
  rerun(job: FakeJob): FakeJob {
    if (!this.isLegacy) {
      const again = this.addJob(job.run, job.labels);
      again.attempt = job.attempt + 1;
      return again;
    }
    Object.assign(job, { status: "waiting", runnerId: 0, startedAt: 0, stoppedAt: 0 });
    return job;
  }
}
