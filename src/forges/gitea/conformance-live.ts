import { randomBytes } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { JobOutcome } from "../../domain/job.ts";
import type { ForgeWorld, WorldJob } from "../conformance.ts";
import { fakeContext, fakeInstallation, fakeSecret } from "../fake-context.ts";
import { FakeServer } from "../fake-server.ts";
import type { Forge, ForgeRequest, RunnerOrders } from "../forge.ts";
import { openGitea } from "./gitea.ts";

/* An organisation of its own at a real Gitea server, whose runners the test plays: for tests. */

interface Credential {
  readonly uuid: string;
  readonly token: string;
  readonly labels: readonly string[];
}

interface ApiJob {
  readonly id: number;
  readonly run_id: number;
  readonly status: string;
}

const waitMs = 60_000;
const results: Partial<Record<JobOutcome, string>> = {
  success: "RESULT_SUCCESS",
  failure: "RESULT_FAILURE",
  cancelled: "RESULT_CANCELLED",
};

async function until<T>(what: string, ask: () => Promise<T | null> | T | null): Promise<T> {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${waitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export class LiveGitea implements ForgeWorld {
  readonly forge: Forge;
  readonly installation = fakeInstallation;
  readonly #url: string;
  readonly #token: string;
  readonly #secret = randomBytes(16).toString("hex");
  readonly #org = `mayfly-live-${randomBytes(4).toString("hex")}`;
  readonly #strangers = `${this.#org}-b`;
  /** Before the server, so that it can be made to fail. */
  readonly #proxy: FakeServer;
  readonly #hooks: Server;
  readonly #events: ForgeRequest[] = [];
  readonly #credentials = new Map<string, Credential>();
  readonly #tasks = new Map<string, { readonly task: string; readonly runner: string }>();
  readonly #given: string[] = [];
  #files = 0;

  private constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
    this.#proxy = new FakeServer(async ({ method, path, query, headers, body }) => {
      const response = await fetch(`${url}${path}?${query.toString()}`, {
        method,
        headers: {
          "content-type": "application/json",
          ...(headers.authorization ? { authorization: headers.authorization } : {}),
        },
        ...(body === null ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      return { status: response.status, ...(text === "" ? {} : { body: JSON.parse(text) }) };
    });
    this.#hooks = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const headers = request.headers as Record<string, string>;
        this.#events.push({ headers, body: Buffer.concat(chunks) });
        response.end();
      });
    });
    this.forge = null as never;
  }

  static async open(url: string, token: string): Promise<ForgeWorld> {
    const world = new LiveGitea(url, token);
    await world.#proxy.open();
    await new Promise<void>((resolve) => world.#hooks.listen(0, "127.0.0.1", resolve));
    const org = world.#org;
    for (const name of [org, world.#strangers]) {
      await world.#api("POST", "/orgs", { username: name });
    }
    await world.#api("POST", `/orgs/${org}/repos`, {
      name: "rocket",
      auto_init: true,
      default_branch: "main",
    });
    const { port } = world.#hooks.address() as AddressInfo;
    await world.#api("POST", `/orgs/${org}/hooks`, {
      type: "gitea",
      active: true,
      events: ["workflow_job", "push"],
      config: { url: `http://127.0.0.1:${port}`, content_type: "json", secret: world.#secret },
    });
    const forge = openGitea(
      {
        url: world.#proxy.url,
        scope: org,
        token: fakeSecret(token),
        secret: fakeSecret(world.#secret),
        programs: {},
        oldRunners: false,
      },
      fakeContext(Date.now),
    );
    (world as { forge: Forge }).forge = world.#listening(forge);
    return world;
  }

  /** Notes what is handed over: the runners are played with it. */
  #listening(forge: Forge): Forge {
    const handOver = forge.handOver?.bind(forge);
    forge.handOver = async (runner, context, signal): Promise<RunnerOrders | null> => {
      const orders = (await handOver?.(runner, context, signal)) ?? null;
      const file = orders?.files.find(({ path }) => path === "registration")?.content ?? "{}";
      const { uuid, token } = JSON.parse(file) as Credential;
      this.#credentials.set(runner.name, { uuid, token, labels: runner.labels });
      this.#given.push(token);
      return orders;
    };
    return forge;
  }

  async queue(job: {
    readonly labels: readonly string[];
    readonly trust: "trusted" | "fork";
  }): Promise<WorldJob> {
    const before = new Set((await this.#jobs()).map(({ id }) => id));
    const n = this.#files++;
    const path = `.gitea/workflows/j${n}.yml`;
    const on = job.trust === "fork" ? "pull_request" : "workflow_dispatch";
    const content = Buffer.from(
      `on: ${on}\njobs:\n  j${n}:\n    runs-on: ${JSON.stringify(job.labels)}\n    steps: [{ run: true }]\n`,
    ).toString("base64");
    const repo = `/repos/${this.#org}/rocket`;
    await this.#api("POST", `${repo}/contents/${path}`, { content, message: "m", branch: "main" });
    if (job.trust === "fork") await this.#pullFromFork(n);
    else {
      const dispatch = `${repo}/actions/workflows/j${n}.yml/dispatches`;
      await this.#api("POST", dispatch, { ref: "refs/heads/main" });
    }
    return until("the job is queued", async () => {
      const found = (await this.#jobs()).find(({ id, status }) => {
        return !before.has(id) && status === "queued";
      });
      return found === undefined ? null : { id: String(found.id) };
    });
  }

  async #pullFromFork(n: number): Promise<void> {
    const fork = `/repos/${this.#strangers}/rocket`;
    await this.#api("POST", `/repos/${this.#org}/rocket/forks`, { organization: this.#strangers });
    await this.#api("POST", `${fork}/contents/f${n}`, {
      content: "",
      message: "m",
      branch: "main",
      new_branch: `topic${n}`,
    });
    await this.#api("POST", `/repos/${this.#org}/rocket/pulls`, {
      title: "a fork's",
      base: "main",
      head: `${this.#strangers}:topic${n}`,
    });
  }

  async event(job: WorldJob): Promise<ForgeRequest> {
    const { status } = await this.#job(job);
    return until(`an event says that the job is ${status}`, () => {
      const told = this.#events.findLast((request) => {
        const body = JSON.parse(Buffer.from(request.body).toString()) as { workflow_job?: ApiJob };
        return String(body.workflow_job?.id) === job.id && body.workflow_job?.status === status;
      });
      return told ?? null;
    });
  }

  async otherEvent(): Promise<ForgeRequest> {
    const path = `/repos/${this.#org}/rocket/contents/other${this.#files++}`;
    await this.#api("POST", path, { content: "", message: "m", branch: "main" });
    return until("the push is told", () => {
      return this.#events.find(({ headers }) => headers["x-gitea-event"] === "push") ?? null;
    });
  }

  async start(job: WorldJob, runner: string): Promise<void> {
    const labels = this.#credentials.get(runner)?.labels;
    await this.#rpc(runner, "Declare", { version: "test", labels });
    const task = await until("the runner gets a task", async () => {
      const { task: given } = await this.#rpc(runner, "FetchTask", {});
      return given?.id ?? null;
    });
    this.#tasks.set(job.id, { task, runner });
    const { status } = await this.#job(job);
    if (status !== "in_progress") throw new Error(`the runner got another job, this is ${status}`);
  }

  async end(job: WorldJob, outcome: JobOutcome): Promise<void> {
    const { task, runner } = this.#tasks.get(job.id) ?? { task: "", runner: "" };
    const stoppedAt = new Date().toISOString();
    const state = { id: task, result: results[outcome] ?? "RESULT_FAILURE", stoppedAt };
    await this.#rpc(runner, "UpdateTask", { state });
    await until("the job is over", async () => {
      return (await this.#job(job)).status === "completed" ? true : null;
    });
  }

  async forget(job: WorldJob): Promise<void> {
    const { run_id: run } = await this.#job(job);
    await this.#api("DELETE", `/repos/${this.#org}/rocket/actions/runs/${run}`);
  }

  async registered(): Promise<readonly string[]> {
    const path = `/orgs/${this.#org}/actions/runners`;
    const { runners } = (await this.#api("GET", path)) as { runners: { name: string }[] };
    return runners.map(({ name }) => name);
  }

  async registerOther(name: string): Promise<void> {
    const path = `/orgs/${this.#org}/actions/runners/registration-token`;
    const { token } = (await this.#api("POST", path)) as { token: string };
    this.#given.push(token);
    const service = `${this.#url}/api/actions/runner.v1.RunnerService/Register`;
    const body = JSON.stringify({ name, token, version: "test", labels: ["linux"] });
    await fetch(service, { method: "POST", headers: { "content-type": "application/json" }, body });
  }

  outage(kind: Parameters<ForgeWorld["outage"]>[0]): Promise<void> {
    return this.#proxy.outage(kind);
  }

  secrets(): readonly string[] {
    return [this.#token, this.#secret, ...this.#given];
  }

  async close(): Promise<void> {
    await this.#proxy.close();
    this.#hooks.closeAllConnections();
    this.#hooks.close();
    for (const org of [this.#org, this.#strangers]) {
      await this.#api("DELETE", `/repos/${org}/rocket`).catch(() => null);
      await this.#api("DELETE", `/orgs/${org}`).catch(() => null);
    }
  }

  async #jobs(): Promise<readonly ApiJob[]> {
    const path = `/orgs/${this.#org}/actions/jobs?limit=50`;
    return ((await this.#api("GET", path)) as { jobs: ApiJob[] }).jobs;
  }

  async #job({ id }: WorldJob): Promise<ApiJob> {
    return (await this.#api("GET", `/repos/${this.#org}/rocket/actions/jobs/${id}`)) as ApiJob;
  }

  async #rpc(
    runner: string,
    method: string,
    body: object,
  ): Promise<{ readonly task?: { readonly id: string } }> {
    const credential = this.#credentials.get(runner);
    if (credential === undefined) throw new Error(`no runner ${runner} was handed over`);
    const service = `${this.#url}/api/actions/runner.v1.RunnerService/${method}`;
    const response = await fetch(service, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-runner-uuid": credential.uuid,
        "x-runner-token": credential.token,
      },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { task?: { id: string } };
  }

  async #api(method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(`${this.#url}/api/v1${path}`, {
      method,
      headers: { authorization: `token ${this.#token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === "" ? null : (JSON.parse(text) as unknown);
  }
}
