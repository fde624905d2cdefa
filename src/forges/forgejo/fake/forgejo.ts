import { createHmac, randomUUID } from "node:crypto";
import { FakeServer, type FakeAnswer, type FakeRequest } from "../../fake-server.ts";
import type { ForgeRequest } from "../../forge.ts";
import { FakeForgejoState, type FakeJob, type FakeRun, type FakeRunner } from "./state.ts";

export interface FakeForgejoOptions {
  readonly token: string;
  readonly secret: string;
  /** Below `/api/v1`, such as `/orgs/acme`. */
  readonly scope: string;
  readonly now: () => number;
  /** 15 cannot list a run's jobs. */
  readonly release?: 15 | 16;
}

type Route = readonly [
  method: string,
  path: RegExp,
  answer: (request: FakeRequest, ...found: string[]) => FakeAnswer,
];

/** A Forgejo server that is played: its API for one scope, behind real HTTP. */
export class FakeForgejo {
  readonly state: FakeForgejoState;
  readonly server: FakeServer;
  readonly #options: FakeForgejoOptions;
  readonly #routes: readonly Route[];
  /** Called after each page of runners was read: lists shift meanwhile. */
  afterPage: () => void = () => {};

  constructor(options: FakeForgejoOptions) {
    this.#options = options;
    this.state = new FakeForgejoState(options.now);
    this.server = new FakeServer((request) => this.#answer(request));
    const scope = `/api/v1${options.scope}/actions/runners`;
    const repo = "/api/v1/repos/([^/]+/[^/]+)/actions";
    this.#routes = [
      ["GET", exactly(`${scope}/jobs`), () => ({ status: 200, body: this.#jobs() })],
      ["GET", exactly(scope), ({ query }) => this.#runners(query)],
      ["POST", exactly(scope), ({ body }) => this.#register(body)],
      ["DELETE", exactly(`${scope}/(\\d+)`), (_, id) => this.#delete(id)],
      ["GET", exactly("/api/v1/repositories/(\\d+)"), (_, id) => this.#repository(id)],
      ["GET", exactly(`${repo}/runs`), ({ query }) => this.#runs(query)],
      ["GET", exactly(`${repo}/runs/(\\d+)`), (_, __, id) => this.#run(id)],
      ["GET", exactly(`${repo}/runs/(\\d+)/jobs`), (_, __, id) => this.#jobsOf(id)],
    ];
  }

  get url(): string {
    return this.server.url;
  }

  /** As `services/webhook/shared/payloader.go` sends it. */
  signed(event: string, payload: object): ForgeRequest {
    const body = Buffer.from(JSON.stringify(payload, null, 2));
    const mac = createHmac("sha256", this.#options.secret).update(body).digest("hex");
    return {
      headers: {
        "content-type": "application/json",
        "x-forgejo-delivery": randomUUID(),
        "x-forgejo-event": event,
        "x-forgejo-signature": mac,
        "x-gitea-event": event,
        "x-gitea-signature": mac,
        "x-hub-signature-256": `sha256=${mac}`,
      },
      body,
    };
  }

  push(): ForgeRequest {
    return this.signed("push", { ref: "refs/heads/main" });
  }

  /** A run is over, by one of the three events that there are for it. */
  runEnded(run: FakeRun, how: "success" | "failure" | "recover"): ForgeRequest {
    return this.signed(`action_run_${how}`, {
      action: how,
      run: { ...runShape(this, run), repository: { full_name: "acme/rocket" } },
      prior_status: "running",
    });
  }

  #answer(request: FakeRequest): FakeAnswer {
    if (request.headers.authorization !== `token ${this.#options.token}`) {
      return { status: 401, body: { message: "invalid username, password or token" } };
    }
    for (const [method, path, answer] of this.#routes) {
      const found = path.exec(request.path);
      if (found !== null && method === request.method) return answer(request, ...found.slice(1));
    }
    const isKnown = this.#routes.some(([, path]) => path.test(request.path));
    return { status: isKnown ? 405 : 404, body: { message: "" } };
  }

  /** Newest first; an empty list was never made, and so is null. */
  #jobs(): object | null {
    const open = [...this.state.jobs.values()]
      .filter(({ status }) => status === "waiting" || status === "running")
      .sort((a, b) => b.id - a.id);
    return open.length === 0 ? null : open.map(jobShape);
  }

  #runners(query: URLSearchParams): FakeAnswer {
    const limit = Math.min(50, Number(query.get("limit") ?? 30));
    const from = (Number(query.get("page") ?? 1) - 1) * limit;
    const all = [...this.state.runners.values()];
    const body = all.slice(from, from + limit).map(runnerShape);
    this.afterPage();
    return { status: 200, body, headers: { "x-total-count": String(all.length) } };
  }

  #register(body: unknown): FakeAnswer {
    const {
      name,
      description = "",
      ephemeral = false,
    } = body as {
      name: string;
      description?: string;
      ephemeral?: boolean;
    };
    const { id, uuid, token } = this.state.register(name, description, ephemeral);
    return { status: 201, body: { id, uuid, token } };
  }

  /** Busy or not. */
  #delete(id = ""): FakeAnswer {
    return this.state.runners.delete(Number(id)) ? { status: 204 } : gone;
  }

  #repository(id = ""): FakeAnswer {
    const name = this.state.repositories.get(Number(id));
    if (name === undefined) return gone;
    return { status: 200, body: { id: Number(id), full_name: name } };
  }

  #run(id = ""): FakeAnswer {
    const run = this.state.runs.get(Number(id));
    return run === undefined ? gone : { status: 200, body: runShape(this, run) };
  }

  #runs(query: URLSearchParams): FakeAnswer {
    const wanted = query.getAll("status");
    const runs = [...this.state.runs.values()]
      .map((run) => runShape(this, run) as { status: string })
      .filter(({ status }) => wanted.length === 0 || wanted.includes(status));
    return { status: 200, body: { workflow_runs: runs.reverse(), total_count: runs.length } };
  }

  #jobsOf(id = ""): FakeAnswer {
    const run = this.state.runs.get(Number(id));
    if (run === undefined || this.#options.release === 15) return gone;
    const jobs = [...this.state.jobs.values()].filter((job) => job.run === run);
    return { status: 200, body: jobs.map(jobShape) };
  }
}

const gone: FakeAnswer = { status: 404, body: { message: "The target couldn't be found." } };

function exactly(path: string): RegExp {
  return new RegExp(`^${path}$`);
}

/** `services/convert/action.go`. */
function jobShape(job: FakeJob): object {
  return {
    id: job.id,
    run_id: job.run.id,
    attempt: job.attempt,
    handle: job.handle,
    repo_id: job.run.repositoryId,
    owner_id: 3,
    name: `job-${job.id}`,
    needs: null,
    runs_on: job.labels,
    task_id: job.taskId,
    status: job.status,
  };
}

/** A run is as its jobs are: over when none of them is under way. */
function runShape({ url, state }: FakeForgejo, run: FakeRun): object {
  const statuses = [...state.jobs.values()]
    .filter((job) => job.run === run)
    .map(({ status }) => status);
  const worst = ["running", "waiting", "blocked", "failure", "cancelled", "skipped"].find(
    (status) => statuses.some((other) => other === status),
  );
  return {
    id: run.id,
    title: "a commit",
    workflow_id: "build.yml",
    is_fork_pull_request: run.isFork,
    need_approval: false,
    event: run.event,
    trigger_event: run.event,
    status: worst ?? "success",
    created: new Date(Math.floor(run.createdAt / 1000) * 1000).toISOString(),
    stopped: "1970-01-01T00:00:00Z",
    html_url: `${url}/acme/rocket/actions/runs/${run.id}`,
  };
}

/** `services/convert/convert.go`. */
function runnerShape(runner: FakeRunner): object {
  return {
    id: runner.id,
    uuid: runner.uuid,
    owner_id: 3,
    repo_id: 0,
    name: runner.name,
    status: runner.status,
    version: "",
    labels: null,
    description: runner.description,
    ephemeral: runner.isEphemeral,
  };
}

/** One of each, to be compared with a real server's. */
export function fakeShapes(fake: FakeForgejo): {
  readonly job: object;
  readonly run: object;
  readonly runner: object;
} {
  const run = fake.state.addRun("push", false);
  return {
    run: runShape(fake, run),
    job: jobShape(fake.state.addJob(run, [])),
    runner: runnerShape(fake.state.register("r", "", true)),
  };
}
