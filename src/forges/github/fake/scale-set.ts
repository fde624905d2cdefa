import type { IncomingMessage } from "node:http";
import type { FakeAnswer, FakeCall } from "./routes.ts";
import type { FakeGithub } from "./server.ts";
import type { FakeRunner } from "./shapes.ts";

type Raw = FakeAnswer & { raw?: string };

interface Queued {
  readonly id: number;
  readonly body: string;
  readonly statistics: Record<string, number>;
}

/** The service of the scale sets, with what it was seen to do. */
export class FakeScaleSets {
  readonly fake: FakeGithub;
  readonly messages: Queued[] = [];
  readonly acknowledged: number[] = [];
  readonly acquired: number[][] = [];
  readonly capacities: string[] = [];
  readonly lastIds: (string | null)[] = [];
  statistics = { totalAssignedJobs: 0, totalRunningJobs: 0, totalAvailableJobs: 0 };
  /** Begin answers with a byte-order mark. */
  hasBom = false;
  /** How many further questions of the queue get 200 and nothing, or 401. */
  empties = 0;
  unauthorized = 0;
  /** How many further sign-ins are too early. */
  early = 0;
  conflicts = 0;
  expired = 0;
  missing = 0;
  opened = 0;
  closed = 0;
  refreshed = 0;
  signIns = 0;
  tokenSeconds = 3600;
  sets: { id: number; name: string; labels: unknown }[] = [];
  readonly #wakes = new Set<() => void>();
  #next = 1;
  #queueToken = "";
  #adminToken = "";
  #isOpen = false;

  constructor(fake: FakeGithub) {
    this.fake = fake;
    fake.service = (call, request) => this.#serve(call, request);
  }

  /** Puts a message into the queue. */
  say(jobs: readonly unknown[], statistics: Partial<FakeScaleSets["statistics"]> = {}): number {
    Object.assign(this.statistics, statistics);
    const id = this.#next++;
    const body = JSON.stringify(jobs);
    this.messages.push({ id, body, statistics: { ...this.statistics } });
    this.wake();
    return id;
  }

  wake(): void {
    for (const each of this.#wakes) each();
  }

  #serve(call: FakeCall, request: IncomingMessage): Promise<Raw> | null {
    const { path, method } = call;
    const bearer = (request.headers.authorization ?? "").replace(/^\w+ /, "");
    if (path.endsWith("/actions/runners/registration-token")) {
      const token = `registration-${this.fake.state.id()}`;
      this.fake.state.secrets.push(token);
      return Promise.resolve({
        status: 201,
        body: { token, expires_at: new Date(this.fake.state.settings.now() + 3600_000) },
      });
    }
    if (path === "/actions/runner-registration") return Promise.resolve(this.#signIn(bearer));
    if (path.startsWith("/queue/")) return this.#queue(call, request, bearer);
    const below = /^\/actions-service\/tenant\/(_apis\/.*)$/.exec(path)?.[1];
    if (below === undefined) return null;
    const isQueueToken = below.endsWith("/acquirejobs");
    if (bearer !== (isQueueToken ? this.#queueToken : this.#adminToken)) {
      return Promise.resolve({ status: 401, body: { message: "who are you?" } });
    }
    if (call.query.get("api-version") !== "6.0-preview" || call.query.get("tenant") !== "7") {
      return Promise.resolve({ status: 400, body: { message: "no version, or a lost query" } });
    }
    return Promise.resolve(this.#marked(this.#answer(method, below, call)));
  }

  #signIn(token: string): Raw {
    this.signIns += 1;
    if (this.early > 0) {
      this.early -= 1;
      return { status: this.early % 2 === 0 ? 401 : 403, body: { message: "not yet" } };
    }
    if (!token.startsWith("registration-")) return { status: 401, body: {} };
    const exp = Math.floor(this.fake.state.settings.now() / 1000) + this.tokenSeconds;
    const claims = Buffer.from(JSON.stringify({ exp })).toString("base64url");
    this.#adminToken = `head.${claims}.admin${this.fake.state.id()}`;
    this.fake.state.secrets.push(this.#adminToken);
    const url = `${this.fake.origin}/actions-service/tenant/?tenant=7`;
    return this.#marked({ status: 200, body: { url, token: this.#adminToken } });
  }

  #answer(method: string, path: string, call: FakeCall): Raw {
    const [, , kind, id, what, session] = path.split("/");
    if (kind === "runnergroups") {
      const isKnown = call.query.get("groupName") === "builders";
      return ok({ count: 1, value: isKnown ? [{ id: 5, name: "builders", size: 0 }] : [] });
    }
    if (kind !== "runnerscalesets") return { status: 404, body: {} };
    if (id === undefined) {
      if (method === "GET") {
        const value = this.sets.filter(({ name }) => name === call.query.get("name"));
        return ok({ count: value.length, value });
      }
      const { name, labels } = call.body as { name: string; labels: unknown };
      const made = { id: this.fake.state.id(), name, labels };
      this.sets.push(made);
      return ok(made);
    }
    if (this.missing > 0) {
      this.missing -= 1;
      return exception(404, "GitHub.Actions.RunnerScaleSetNotFoundException");
    }
    if (what === "sessions") return this.#session(method, session);
    if (what === "acquirejobs") {
      const ids = call.body as unknown as number[];
      this.acquired.push(ids);
      return ok({ count: ids.length, value: ids });
    }
    return what === "generatejitconfig" ? this.#configure(call) : { status: 404, body: {} };
  }

  #session(method: string, session: string | undefined): Raw {
    if (method === "POST" && (this.#isOpen || this.conflicts > 0)) {
      this.conflicts = Math.max(0, this.conflicts - 1);
      return exception(409, "GitHub.Actions.RunnerScaleSetSessionConflictException");
    }
    if (method === "DELETE") {
      this.#isOpen = false;
      this.closed += 1;
      return { status: 204 };
    }
    if (method === "PATCH") this.refreshed += 1;
    else this.opened += 1;
    this.#isOpen = true;
    this.#queueToken = `queue-${this.fake.state.id()}`;
    this.fake.state.secrets.push(this.#queueToken);
    return ok({
      sessionId: session ?? "0d7d7b7c-1f2a-4d0f-9c5e-0a3c2b1d4e5f",
      ownerName: "m1",
      // Its address changes with each token.
      messageQueueUrl: `${this.fake.origin}/queue/${this.#next}/messages?tenant=7`,
      messageQueueAccessToken: this.#queueToken,
      statistics: this.statistics,
    });
  }

  #configure(call: FakeCall): Raw {
    const { name } = call.body as { name: string };
    const { state } = this.fake;
    if ([...state.runners.values()].some((each) => each.name === name)) {
      return exception(409, "GitHub.DistributedTask.WebApi.TaskAgentExistsException");
    }
    const runner: FakeRunner = {
      id: state.id(),
      name,
      labels: ["set"],
      group: 1,
      isOnline: false,
      showsBusy: false,
      isBusy: false,
    };
    state.runners.set(runner.id, runner);
    const encodedJITConfig = Buffer.from(`set ${runner.id}`).toString("base64");
    state.secrets.push(encodedJITConfig);
    return ok({ runner: { id: runner.id, name, runnerScaleSetId: 1 }, encodedJITConfig });
  }

  async #queue(call: FakeCall, request: IncomingMessage, bearer: string): Promise<Raw> {
    if (this.unauthorized > 0 || bearer !== this.#queueToken) {
      this.unauthorized = Math.max(0, this.unauthorized - 1);
      return { status: 401, body: { message: "The token expired" } };
    }
    if (call.method === "DELETE") {
      const id = Number(call.path.split("/").at(-1));
      this.acknowledged.push(id);
      const at = this.messages.findIndex((each) => each.id === id);
      if (at >= 0) this.messages.splice(at, 1);
      return { status: 204 };
    }
    if (this.expired > 0) {
      this.expired -= 1;
      this.#isOpen = false;
      return exception(400, "GitHub.Actions.RunnerScaleSetSessionExpiredException");
    }
    this.capacities.push(String(request.headers["x-scalesetmaxcapacity"]));
    this.lastIds.push(call.query.get("lastMessageId"));
    if (this.empties > 0) {
      this.empties -= 1;
      return { status: 200, raw: "" };
    }
    const last = Number(call.query.get("lastMessageId") ?? 0);
    const message = this.messages.find((each) => each.id > last);
    if (message === undefined) {
      await this.#held(request);
      return { status: 202 };
    }
    const { id, body, statistics } = message;
    const messageType = "RunnerScaleSetJobMessages";
    return this.#marked(ok({ messageId: id, messageType, body, statistics }));
  }

  /** Until something comes, or the asker goes, or a while has passed. */
  #held(request: IncomingMessage): Promise<void> {
    const over = Promise.withResolvers<void>();
    const timer = setTimeout(over.resolve, 2_000);
    this.#wakes.add(over.resolve);
    request.socket.once("close", () => over.resolve());
    return over.promise.finally(() => {
      clearTimeout(timer);
      this.#wakes.delete(over.resolve);
    });
  }

  #marked(answer: Raw): Raw {
    if (!this.hasBom || answer.body === undefined) return answer;
    return { ...answer, raw: `\uFEFF${JSON.stringify(answer.body)}` };
  }
}

function ok(body: unknown): Raw {
  return { status: 200, body };
}

function exception(status: number, typeName: string): Raw {
  return { status, body: { typeName: `${typeName}, GitHub`, message: "No." } };
}
