import { createHmac, randomUUID, verify } from "node:crypto";
import type { ForgeRequest } from "../../forge.ts";
import {
  jobEventShape,
  runEventShape,
  type FakeDelivery,
  type FakeJob,
  type FakeRepository,
  type FakeRun,
  type FakeRunner,
} from "./shapes.ts";

export interface FakeSettings {
  readonly org: string;
  readonly now: () => number;
  /** What the times of an App's key are held against. */
  readonly keyNow: () => number;
  readonly token: string;
  /** What webhooks are signed with. */
  readonly secret: string;
  /** The App's public key (PEM), if there is an App. */
  readonly appKey?: string;
}

/** What the server does wrong, or is slow to know. Each a thing that GitHub was seen to do. */
export interface Faults {
  /** Says `busy: false` of runners that work. */
  staleBusy: boolean;
  /** Lets runners that work be removed. */
  removesBusy: boolean;
  /** How many further answers are a secondary limit, and by which status. */
  secondary: { left: number; status: 403 | 429; retryAfter: number | null };
  /** All refusals: message by path's part. */
  refusals: { part: string; status: number; message: string }[];
  /** A runner comes between the pages of the runner list: each page begins one later. */
  shiftPages: boolean;
}

/** GitHub's Actions as far as a runner manager sees them, in memory. */
export class FakeState {
  readonly settings: FakeSettings;
  readonly repositories = new Map<string, FakeRepository>();
  readonly runs = new Map<number, FakeRun>();
  readonly jobs = new Map<number, FakeJob>();
  readonly runners = new Map<number, FakeRunner>();
  readonly groups = [
    { id: 1, name: "Default", public: true },
    { id: 5, name: "builders", public: false },
  ];
  readonly deliveries: FakeDelivery[] = [];
  readonly redelivered: number[] = [];
  /** All that was given out and must stay secret. */
  readonly secrets: string[] = [];
  readonly tokens = new Set<string>();
  /** Runners' ids by the configurations that were given out. */
  readonly configs = new Map<string, number>();
  readonly limit = { limit: 5000, remaining: 5000, resetAt: 0 };
  tokenExpires: number | null = null;
  /** Part of every entity tag, as the token is at GitHub: with another, all has changed. */
  salt = "";
  readonly faults: Faults = {
    staleBusy: false,
    removesBusy: false,
    secondary: { left: 0, status: 403, retryAfter: null },
    refusals: [],
    shiftPages: false,
  };
  #nextId = 1000;
  api = "";

  constructor(settings: FakeSettings) {
    this.settings = settings;
    this.tokens.add(settings.token);
    this.secrets.push(settings.token, settings.secret);
  }

  /** Whose just-in-time configuration this is. */
  runnerOf(config: string): FakeRunner | null {
    return this.runners.get(this.configs.get(config) ?? 0) ?? null;
  }

  id(): number {
    return this.#nextId++;
  }

  repository(name: string, isPrivate = false): FakeRepository {
    const fullName = name.includes("/") ? name : `${this.settings.org}/${name}`;
    const known = this.repositories.get(fullName);
    if (known !== undefined) return known;
    const made = { id: this.id(), fullName, pushedAt: this.settings.now(), isPrivate };
    this.repositories.set(fullName, made);
    return made;
  }

  run(repository: FakeRepository, head: FakeRepository | null, event = "push"): FakeRun {
    const at = this.settings.now();
    const times = { createdAt: at, updatedAt: at };
    const run = { id: this.id(), repository, head, event, ...times, attempt: 1, hasMore: false };
    this.runs.set(run.id, run);
    return run;
  }

  job(run: FakeRun, labels: readonly string[]): FakeJob {
    const at = this.settings.now();
    const job: FakeJob = {
      id: this.id(),
      run,
      attempt: run.attempt,
      annotations: [],
      name: "build",
      labels,
      status: "queued",
      conclusion: null,
      createdAt: at,
      startedAt: at,
      completedAt: null,
      runner: null,
    };
    this.jobs.set(job.id, job);
    return job;
  }

  start(job: FakeJob, name: string): void {
    const runner = [...this.runners.values()].find((each) => each.name === name);
    if (runner === undefined) throw new Error(`there is no runner ${name}`);
    Object.assign(runner, { isOnline: true, isBusy: true, showsBusy: !this.faults.staleBusy });
    Object.assign(job, { status: "in_progress", runner, startedAt: this.settings.now() });
    job.run.updatedAt = this.settings.now();
  }

  /** Its runner was for it alone, and goes with it. */
  end(job: FakeJob, conclusion: string): void {
    const at = this.settings.now();
    Object.assign(job, { status: "completed", conclusion, completedAt: at });
    job.run.updatedAt = at;
    if (job.runner !== null) this.runners.delete(job.runner.id);
  }

  statusOf(run: FakeRun): string {
    const jobs = this.jobsOf(run);
    const isOver = jobs.length > 0 && jobs.every(({ status }) => status === "completed");
    if (isOver && !run.hasMore) return "completed";
    return jobs.some(({ status }) => status !== "queued") ? "in_progress" : "queued";
  }

  jobsOf(run: FakeRun): FakeJob[] {
    const all = [...this.jobs.values()];
    return all.filter((job) => job.run === run && job.attempt === run.attempt);
  }

  /** The run's next attempt, of these jobs. */
  again(run: FakeRun, jobs: readonly FakeJob[]): FakeJob[] {
    run.attempt += 1;
    run.updatedAt = this.settings.now();
    return jobs.map(({ labels }) => this.job(run, labels));
  }

  /** The event about a job as it stands now. */
  jobEvent(job: FakeJob): ForgeRequest {
    return this.sign("workflow_job", jobEventShape(this.api, job));
  }

  runEvent(run: FakeRun, action = "requested"): ForgeRequest {
    return this.sign("workflow_run", runEventShape(this.api, run, action));
  }

  /** A delivery as GitHub makes it: the signature is over these very bytes. */
  sign(event: string, payload: unknown): ForgeRequest {
    const body = Buffer.from(JSON.stringify(payload));
    const mac = createHmac("sha256", this.settings.secret).update(body).digest("hex");
    const headers = {
      "content-type": "application/json",
      "user-agent": "GitHub-Hookshot/0",
      "x-github-event": event,
      "x-github-delivery": randomUUID(),
      "x-hub-signature-256": `sha256=${mac}`,
    };
    return { headers, body, address: "192.0.2.1" };
  }

  /** Whether a request's credential is an App's own, by its signature and its times. */
  isApp(token: string): boolean {
    const { appKey, keyNow } = this.settings;
    const [head = "", body = "", signature = ""] = token.split(".");
    if (appKey === undefined || signature === "") return false;
    const bytes = Buffer.from(`${head}.${body}`);
    if (!verify("sha256", bytes, appKey, Buffer.from(signature, "base64url"))) return false;
    const { iat, exp } = JSON.parse(Buffer.from(body, "base64url").toString()) as {
      iat: number;
      exp: number;
    };
    const seconds = keyNow() / 1000;
    return iat <= seconds && exp > seconds && exp - iat <= 660;
  }
}
