import { createHmac, randomUUID } from "node:crypto";
import { FakeServer, type FakeAnswer, type FakeRequest } from "../../fake-server.ts";
import type { ForgeRequest } from "../../forge.ts";
import { jobShape, pullShape, runnerShape, runShape } from "./shapes.ts";
import { FakeGiteaState, type FakeGiteaRules, type FakeJob } from "./state.ts";

export interface FakeGiteaOptions extends FakeGiteaRules {
  readonly token: string;
  readonly secret: string;
  /** Below `/api/v1`, such as `/orgs/acme`. */
  readonly scope: string;
}

type Route = readonly [
  method: string,
  path: RegExp,
  answer: (request: FakeRequest, ...found: string[]) => FakeAnswer,
];

/** A Gitea server that is played: its API for one scope, behind real HTTP. */
export class FakeGitea {
  readonly state: FakeGiteaState;
  readonly server: FakeServer;
  readonly #options: FakeGiteaOptions;
  readonly #routes: readonly Route[];
  /** As many as a page holds at most, whatever is asked for. */
  pageMax = 50;
  /** Go writes lists that were never filled as `null`. */
  hasNullLists = false;
  /** Called after each page of a list was read: lists shift meanwhile. */
  afterPage: () => void = () => {};

  constructor(options: FakeGiteaOptions) {
    this.#options = options;
    this.state = new FakeGiteaState(options);
    this.server = new FakeServer((request) => this.#answer(request));
    const scope = `/api/v1${options.scope}/actions`;
    const repo = "/api/v1/repos/([^/]+/[^/]+)";
    this.#routes = [
      ["GET", exactly("/api/v1/version"), () => ok({ version: options.version })],
      ["GET", exactly(`${scope}/jobs`), ({ query }) => this.#jobs(query)],
      ["GET", exactly(`${scope}/runners`), ({ query }) => this.#runners(query)],
      ["PATCH", exactly(`${scope}/runners/(\\d+)`), (request, id) => this.#disable(request, id)],
      ["DELETE", exactly(`${scope}/runners/(\\d+)`), (_, id) => this.#delete(id)],
      [
        "POST",
        exactly(`${scope}/runners/registration-token`),
        () => ok({ token: this.state.registrationToken }),
      ],
      [
        "POST",
        exactly("/api/actions/runner\\.v1\\.RunnerService/Register"),
        (request) => this.#register(request),
      ],
      ["GET", exactly(`${repo}/actions/jobs/(\\d+)`), (_, __, id) => this.#job(id)],
      ["GET", exactly(`${repo}/actions/runs/(\\d+)`), (_, __, id) => this.#run(id)],
      [
        "POST",
        exactly(`${repo}/actions/runs/(\\d+)/jobs/(\\d+)/rerun`),
        (_, __, ___, id) => this.#rerun((job) => job.id === Number(id)),
      ],
      [
        "POST",
        exactly(`${repo}/actions/runs/(\\d+)/rerun-failed-jobs`),
        (_, __, id) =>
          this.#rerun(({ run, status }) => run.id === Number(id) && status === "failure"),
      ],
      ["GET", exactly(`${repo}/actions/runs`), ({ query }, of) => this.#runs(of, query)],
      [
        "GET",
        exactly(`${repo}/actions/runs/(\\d+)/jobs`),
        ({ query }, _, id) => this.#jobsOf(id, query),
      ],
      ["GET", exactly(`${repo}/pulls/(\\d+)`), (_, __, id) => this.#pull(id)],
    ];
  }

  get url(): string {
    return this.server.url;
  }

  /** The event of how a job stands, as `services/webhook/deliver.go` sends it. */
  event(job: FakeJob): ForgeRequest {
    const shape = jobShape(this.state, this.url, job) as { status: string };
    return this.signed("workflow_job", {
      action: shape.status,
      workflow_job: shape,
      repository: { id: 1, full_name: job.run.repository },
      sender: { login: "somebody" },
    });
  }

  signed(event: string, payload: object): ForgeRequest {
    const body = Buffer.from(JSON.stringify(payload, null, 2));
    const mac = createHmac("sha256", this.#options.secret).update(body).digest("hex");
    return {
      headers: {
        "content-type": "application/json",
        "x-gitea-delivery": randomUUID(),
        "x-gitea-event": event,
        "x-gitea-event-type": event,
        "x-gitea-signature": mac,
        "x-hub-signature-256": `sha256=${mac}`,
      },
      body,
    };
  }

  #answer(request: FakeRequest): FakeAnswer {
    const isService = request.path.startsWith("/api/actions/");
    if (!isService && request.headers.authorization !== `token ${this.#options.token}`) {
      return { status: 401, body: { message: "invalid username, password or token" } };
    }
    for (const [method, path, answer] of this.#routes) {
      const found = path.exec(request.path);
      if (found !== null && method === request.method) return answer(request, ...found.slice(1));
    }
    const isKnown = this.#routes.some(([, path]) => path.test(request.path));
    return { status: isKnown ? 405 : 404, body: { message: "" } };
  }

  #jobs(query: URLSearchParams): FakeAnswer {
    const wanted = new Set(query.getAll("status"));
    const shapes = [...this.state.jobs.values()]
      .map((job) => jobShape(this.state, this.url, job) as { status: string; id: number })
      .filter(({ status }) => wanted.size === 0 || wanted.has(status));
    // Before 1.27 there was no choice of an order.
    const isDescending = !this.state.isLegacy && query.get("order") === "desc";
    shapes.sort((a, b) => (isDescending ? b.id - a.id : a.id - b.id));
    return this.#page("jobs", shapes, query);
  }

  #runners(query: URLSearchParams): FakeAnswer {
    return this.#page("runners", [...this.state.runners.values()].map(runnerShape), query);
  }

  #page(name: string, items: readonly object[], query: URLSearchParams): FakeAnswer {
    const limit = Math.min(this.pageMax, Number(query.get("limit") ?? 30));
    const from = (Number(query.get("page") ?? 1) - 1) * limit;
    const page = items.slice(from, from + limit);
    this.afterPage();
    const list = page.length === 0 && this.hasNullLists ? null : page;
    return ok({ [name]: list, total_count: items.length });
  }

  #disable({ body }: FakeRequest, id = ""): FakeAnswer {
    if (!this.state.canDisable) return { status: 405 };
    const runner = this.state.runners.get(Number(id));
    if (runner === undefined) return { status: 404, body: { message: "" } };
    runner.isDisabled = (body as { disabled: boolean }).disabled;
    return ok(runnerShape(runner));
  }

  /** Busy or not. */
  #delete(id = ""): FakeAnswer {
    return { status: this.state.runners.delete(Number(id)) ? 204 : 404 };
  }

  #register({ body }: FakeRequest): FakeAnswer {
    const { name, token, labels, ephemeral } = body as {
      name: string;
      token: string;
      labels: string[];
      ephemeral: boolean;
    };
    if (token !== this.state.registrationToken) {
      return { status: 500, body: { code: "unknown", message: "registration token not found" } };
    }
    const runner = this.state.register(name, labels, ephemeral);
    const { id, uuid } = runner;
    return ok({ runner: { id: String(id), uuid, token: runner.token, name, labels, ephemeral } });
  }

  #job(id = ""): FakeAnswer {
    const job = this.state.jobs.get(Number(id));
    return job === undefined ? gone : ok(jobShape(this.state, this.url, job));
  }

  #rerun(which: (job: FakeJob) => boolean): FakeAnswer {
    if (!this.state.canRerun) return { status: 404, body: { message: "404 page not found" } };
    const jobs = [...this.state.jobs.values()].filter(which);
    const [first] = jobs;
    if (first === undefined) return gone;
    if (!this.state.isOver(first.run)) return { status: 400, body: { message: "not done" } };
    const again = jobs.map((job) => this.state.rerun(job));
    return { status: 201, body: jobShape(this.state, this.url, again[0]!) };
  }

  #run(id = ""): FakeAnswer {
    const run = this.state.runs.get(Number(id));
    return run === undefined ? gone : ok(runShape(this.state, this.url, run));
  }

  #runs(repository = "", query: URLSearchParams): FakeAnswer {
    const wanted = new Set(query.getAll("status"));
    const shapes = [...this.state.runs.values()]
      .filter((run) => run.repository === repository)
      .map((run) => runShape(this.state, this.url, run) as { status: string })
      .filter(({ status }) => wanted.size === 0 || wanted.has(status));
    return this.#page("workflow_runs", shapes.reverse(), query);
  }

  #jobsOf(id = "", query: URLSearchParams): FakeAnswer {
    const jobs = [...this.state.jobs.values()].filter(({ run }) => run.id === Number(id));
    return this.#page(
      "jobs",
      jobs.map((job) => jobShape(this.state, this.url, job)),
      query,
    );
  }

  #pull(id = ""): FakeAnswer {
    const pull = this.state.pulls.get(Number(id));
    return pull === undefined ? gone : ok(pullShape(pull));
  }
}

const gone: FakeAnswer = { status: 404, body: { message: "The target couldn't be found." } };

function ok(body: object): FakeAnswer {
  return { status: 200, body };
}

function exactly(path: string): RegExp {
  return new RegExp(`^${path}$`);
}
