import { randomBytes, randomUUID } from "node:crypto";

/* What a played Forgejo holds, and the rules by which its state changes. */

export type FakeStatus =
  "blocked" | "waiting" | "running" | "success" | "failure" | "cancelled" | "skipped";

export interface FakeRun {
  readonly id: number;
  readonly repositoryId: number;
  readonly event: string;
  readonly isFork: boolean;
  readonly createdAt: number;
}

export interface FakeJob {
  readonly id: number;
  readonly run: FakeRun;
  readonly labels: readonly string[];
  attempt: number;
  handle: string;
  status: FakeStatus;
  taskId: number;
  runnerId: number;
}

export interface FakeRunner {
  readonly id: number;
  readonly uuid: string;
  readonly token: string;
  readonly name: string;
  readonly description: string;
  readonly isEphemeral: boolean;
  /** What the server says of it: `active` only for some seconds after it reported something. */
  status: "offline" | "idle" | "active";
}

export class FakeForgejoState {
  readonly repositories = new Map<number, string>([[7, "acme/rocket"]]);
  readonly runs = new Map<number, FakeRun>();
  readonly jobs = new Map<number, FakeJob>();
  readonly runners = new Map<number, FakeRunner>();
  /** Everything secret that was ever given out. */
  readonly secrets: string[] = [];
  readonly #now: () => number;
  #next = 500;

  constructor(now: () => number) {
    this.#now = now;
  }

  addRun(event: string, isFork: boolean): FakeRun {
    const createdAt = this.#now();
    const run = { id: this.#next++, repositoryId: 7, event, isFork, createdAt };
    this.runs.set(run.id, run);
    return run;
  }

  addJob(run: FakeRun, labels: readonly string[], status: FakeStatus = "waiting"): FakeJob {
    const job: FakeJob = {
      id: this.#next++,
      run,
      labels,
      attempt: 1,
      handle: randomUUID(),
      status,
      taskId: 0,
      runnerId: 0,
    };
    this.jobs.set(job.id, job);
    return job;
  }

  register(name: string, description: string, isEphemeral: boolean): FakeRunner {
    const runner: FakeRunner = {
      id: this.#next++,
      uuid: randomUUID(),
      token: randomBytes(20).toString("hex"),
      name,
      description,
      isEphemeral,
      status: "offline",
    };
    this.runners.set(runner.id, runner);
    this.secrets.push(runner.token);
    return runner;
  }

  /** The runner asks for the job with this handle, and is given it or nothing. */
  take(runner: FakeRunner, handle: string): FakeJob {
    const job = [...this.jobs.values()].find((other) => other.handle === handle);
    if (job?.status !== "waiting") throw new Error(`no job waits with the handle ${handle}`);
    Object.assign(job, { status: "running", taskId: this.#next++, runnerId: runner.id });
    runner.status = "idle";
    return job;
  }

  /** The runner's registration goes with its one job. */
  end(job: FakeJob, status: FakeStatus): void {
    job.status = status;
    if (this.runners.get(job.runnerId)?.isEphemeral === true) this.runners.delete(job.runnerId);
  }

  /** The same job again, under another handle. */
  rerun(job: FakeJob): void {
    job.attempt++;
    Object.assign(job, { handle: randomUUID(), status: "waiting", taskId: 0, runnerId: 0 });
  }
}
