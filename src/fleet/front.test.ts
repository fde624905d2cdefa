import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, suite, test } from "node:test";
import { samplePool } from "../../test/samples.ts";
import { checkFront } from "../cli/front-check.ts";
import { MayflyError } from "../domain/errors.ts";
import { jobId } from "../domain/job.ts";
import type { ForgeRequest } from "../forges/forge.ts";
import { openWorld, type GithubWorld } from "../forges/github/fake/world.ts";
import { until } from "../providers/conformance-world.ts";
import { Amazon, motoForTests, type Installed } from "../providers/ec2/testing.ts";
import { managerPermissions } from "../providers/ec2/infrastructure/manager-permissions.ts";
import { defaultStack, synthesise } from "../providers/ec2/infrastructure/template.ts";
import { findJob } from "../store/questions.ts";
import { Store } from "../store/store.ts";
import type { Intake } from "./api.ts";
import { systemClock } from "./clock.ts";
import { Front, type FrontOutcome, type FrontParts } from "./front.ts";
import { openSqs } from "./front-sqs.ts";
import { FleetIntake } from "./intake.ts";

const installed = await motoForTests();
const skip = typeof installed === "string" ? installed : false;

interface Answer {
  readonly statusCode: number;
  readonly body: string;
}
type Handler = (event: object) => Promise<Answer>;

let amazon: Amazon;
let handler: Handler;
let code: string;

/** The function as the template has it, loaded as Lambda does: an index.js, of CommonJS. */
async function loadHandler(): Promise<Handler> {
  code = await mkdtemp(join(tmpdir(), "mayfly-front-"));
  const file = join(import.meta.dirname, "../providers/ec2/infrastructure/front-handler.cjs");
  const template = synthesise({ ...defaultStack, front: 5 }, await readFile(file, "utf8"));
  const { ZipFile } = template.Resources["Front"]!.Properties["Code"] as { ZipFile: string };
  await writeFile(join(code, "index.js"), ZipFile);
  await symlink(join(import.meta.dirname, "../../node_modules"), join(code, "node_modules"));
  const { handler } = createRequire(join(code, "/"))("./index.js") as { handler: Handler };
  return handler;
}

/** A request to a function URL, as Lambda tells of it (payload format 2.0). */
function urlEvent(
  { headers, body }: Pick<ForgeRequest, "headers" | "body">,
  more: { path?: string; method?: string; isBase64?: boolean } = {},
): object {
  const { path = "/v1/forges/acme/events", method = "POST", isBase64 = false } = more;
  return {
    version: "2.0",
    routeKey: "$default",
    rawPath: path,
    rawQueryString: "",
    headers: {
      ...headers,
      host: "abc.lambda-url.us-east-1.on.aws",
      "x-forwarded-for": "192.0.2.1",
      "x-amzn-trace-id": "Root=1-0",
    },
    requestContext: {
      accountId: "anonymous",
      apiId: "abc",
      domainName: "abc.lambda-url.us-east-1.on.aws",
      domainPrefix: "abc",
      http: { method, path, protocol: "HTTP/1.1", sourceIp: "192.0.2.1", userAgent: "x" },
      requestId: "0",
      routeKey: "$default",
      stage: "$default",
      time: "21/Nov/2026:00:00:00 +0000",
      timeEpoch: 0,
    },
    ...(body.length === 0
      ? {}
      : { body: Buffer.from(body).toString(isBase64 ? "base64" : "utf8") }),
    isBase64Encoded: isBase64,
  };
}

suite("the front", { skip, timeout: 590_000 }, () => {
  let github: GithubWorld;
  let store: Store;
  let folder: string;
  let queue: string;
  let n = 0;
  const fronts: Front[] = [];

  before(async () => {
    amazon = await Amazon.start((installed as Installed).path);
    process.env["AWS_REGION"] = "us-east-1";
    process.env["AWS_ENDPOINT_URL_SQS"] = amazon.url;
    handler = await loadHandler();
  });
  after(async () => {
    delete process.env["QUEUE_URL"];
    delete process.env["AWS_REGION"];
    delete process.env["AWS_ENDPOINT_URL_SQS"];
    await rm(code, { recursive: true });
    await amazon.close();
  });
  beforeEach(async () => {
    amazon.fault = () => undefined;
    amazon.calls.length = 0;
    await fresh();
    github = await openWorld({ now: Date.now });
    folder = await mkdtemp(join(tmpdir(), "mayfly-front-"));
    store = await Store.open({ engine: "sqlite", folder }, Date.now);
  });
  afterEach(async () => {
    amazon.fault = () => undefined;
    for (const front of fronts.splice(0)) await front.stop();
    await store.close();
    await github.close();
    await rm(folder, { recursive: true });
  });

  const fresh = async (againSeconds?: number): Promise<void> => {
    queue = await makeQueue(`front-${n++}`, againSeconds);
    process.env["QUEUE_URL"] = queue;
  };

  const intake = (): Intake =>
    new FleetIntake(store, new Map([["acme", github.forge]]), [
      samplePool({ forge: "acme", labels: ["linux"] }),
    ]);

  /** A replica that takes from the queue. */
  function open(more: Partial<FrontParts> = {}) {
    const took: FrontOutcome[] = [];
    const said: string[] = [];
    const log = { info: () => {}, warn: (_: object, line: string) => void said.push(line) };
    const front = new Front({
      queue: openSqs({ queue, region: "us-east-1", accessKey: null }),
      intake: intake(),
      clock: systemClock,
      chance: () => 0,
      log,
      took: (outcome) => void took.push(outcome),
      ...more,
    });
    front.start();
    fronts.push(front);
    return { front, took, said };
  }

  const queued = () => github.queue({ labels: ["linux"], trust: "trusted" });
  const send = async (request: ForgeRequest, path?: string): Promise<void> => {
    const answer = await handler(urlEvent(request, path === undefined ? {} : { path }));
    assert.equal(answer.statusCode, 202, answer.body);
  };
  const left = async (): Promise<number> => {
    const asked = { Action: "GetQueueAttributes", QueueUrl: queue, "AttributeName.1": "All" };
    const told = await amazon.query("sqs", { Version: "2012-11-05", ...asked });
    const counts = told.matchAll(/<Name>ApproximateNumberOf\w+<\/Name><Value>(\d+)/g);
    const values = [...counts].map(([, count]) => Number(count));
    assert.ok(values.length >= 2, told);
    return values.reduce((sum, count) => sum + count, 0);
  };
  const stateOf = async (id: string) => (await findJob(store.db, jobId("acme", id, 1)))?.state;
  const emptied = () => until("the queue to be empty", async () => (await left()) === 0, 100_000);

  test("hands a signed webhook to the intake, and takes it off once it is stored", async () => {
    const job = await queued();
    await send(await github.event(job));
    assert.equal(await left(), 1);
    const { took } = open();
    await emptied();
    assert.deepEqual(took, ["stored"]);
    assert.equal(await stateOf(job.id), "waiting");
  });

  test("is not moved by events that come twice, or in the wrong order", async () => {
    const job = await queued();
    const first = await github.event(job);
    await github.registerOther("theirs");
    await github.start(job, "theirs");
    const second = await github.event(job);
    await github.end(job, "success");
    const third = await github.event(job);
    await send(third);
    const { took } = open();
    await emptied();
    // Only now: two lines take what is there at once, and either may be the first to store.
    for (const event of [first, second, third, first]) await send(event);
    await emptied();
    assert.deepEqual(took, ["stored", "repeated", "repeated", "repeated", "repeated"]);
    assert.equal(await stateOf(job.id), "ended");
  });

  test("drops what is not signed rightly, in one line of the log for many", async () => {
    const job = await queued();
    const good = await github.event(job);
    const bad = { ...good, headers: { ...good.headers, "x-hub-signature-256": "sha256=00" } };
    for (let i = 0; i < 6; i++) await send(bad);
    await send(good, "/v1/forges/nobody/events");
    await put("no JSON");
    await put(JSON.stringify({ version: 1, forge: "../x", headers: {}, body: "" }));
    await put(JSON.stringify({ version: 2 }));
    const { took, said } = open();
    await emptied();
    assert.deepEqual(took.toSorted(), [...Array(3).fill("malformed"), ...Array(7).fill("refused")]);
    assert.equal(said.length, 1, said.join("\n"));
    assert.equal(await stateOf(job.id), undefined);
  });

  test("leaves in the queue what cannot be judged now, and takes it later", async () => {
    await fresh(1);
    const job = await queued();
    await send(await github.event(job));
    const real = intake();
    let tries = 0;
    const shaky: Intake = {
      ...real,
      receive: async (forge, request) => {
        if (tries++ === 0) throw new MayflyError("unavailable", "GitHub does not answer");
        if (tries === 2) throw new Error("the disk is full");
        return real.receive(forge, request);
      },
    };
    const { took, said } = open({ intake: shaky });
    await emptied();
    assert.deepEqual(took.slice(0, 2), ["later", "later"]);
    assert.equal(took.filter((outcome) => outcome === "stored").length, 1);
    assert.match(said.join("\n"), /GitHub does not answer[^]*the disk is full/);
    assert.equal(await stateOf(job.id), "waiting");
  });

  test("makes nothing twice when it is killed between storing and taking off", async () => {
    await fresh(1);
    const job = await queued();
    await send(await github.event(job));
    amazon.fault = ({ action }) =>
      action === "DeleteMessageBatch" ? { code: "InternalError", status: 500 } : undefined;
    const { front, took } = open();
    await until("it to be stored", async () => (await stateOf(job.id)) === "waiting");
    await until("the removal to fail", async () => amazon.count("DeleteMessageBatch") > 0);
    await front.stop();
    fronts.splice(0);
    assert.equal(await left(), 1);
    amazon.fault = () => undefined;
    const next = open();
    await emptied();
    assert.equal(took[0], "stored");
    assert.deepEqual([...new Set(next.took)], ["repeated"]);
  });

  test("shares the queue among replicas, and loses nothing", async () => {
    const jobs = await Promise.all(Array.from({ length: 40 }, queued));
    for (const job of jobs) await send(await github.event(job));
    const replicas = [open(), open()];
    await emptied();
    for (const job of jobs) assert.equal(await stateOf(job.id), "waiting");
    const took = replicas.flatMap((replica) => replica.took);
    assert.equal(took.filter((outcome) => outcome === "stored").length, jobs.length);
  });

  test("stops at once when it waits, and ends what it has begun", async () => {
    const idle = open();
    await until("it to wait", async () => amazon.count("ReceiveMessage") > 0);
    await idle.front.stop();
    fronts.splice(0);

    // Moto does not see that nobody listens any more, and would give it what comes.
    await fresh();
    const job = await queued();
    await send(await github.event(job));
    const gate = Promise.withResolvers<void>();
    const real = intake();
    let begun = false;
    const slow: Intake = {
      ...real,
      receive: async (forge, request) => {
        begun = true;
        await gate.promise;
        return real.receive(forge, request);
      },
    };
    // A stop waits for ten seconds at most: longer here, for a slow host.
    const after = (ms: number, fn: () => void) => systemClock.after(20 * ms, fn);
    const { front, took } = open({ intake: slow, clock: { ...systemClock, after } });
    await until("it to begin", async () => begun);
    const stopped = front.stop();
    gate.resolve();
    await stopped;
    assert.deepEqual(took, ["stored"]);
    assert.equal(await left(), 0);
  });

  test("goes on when the queue was out of reach", async () => {
    amazon.fault = ({ action }) =>
      action === "ReceiveMessage" ? { code: "ServiceUnavailable", status: 503 } : undefined;
    const { said } = open();
    await until("it to say so", async () => said.length > 0);
    assert.match(said[0]!, /queue cannot be used/);
    amazon.fault = () => undefined;
    const job = await queued();
    await send(await github.event(job));
    await emptied();
    assert.equal(await stateOf(job.id), "waiting");
  });

  test("has a function that takes no more than fits, and passes only what is needed", async () => {
    const headers = { "content-type": "application/json", "x-github-event": "ping" };
    const status = async (request: object, more = {}) =>
      (await handler(urlEvent({ headers, body: Buffer.from("{}"), ...request }, more))).statusCode;
    assert.equal(await status({}, { method: "GET" }), 405);
    for (const path of ["/", "/v1/forges//events", "/v1/forges/acme/events/", "/v1/jobs"]) {
      assert.equal(await status({}, { path }), 404, path);
    }
    assert.equal(await status({ body: Buffer.alloc(0) }), 400);
    assert.equal(await status({ headers: {} }), 400);
    const many = Array.from({ length: 40 }, (_, i) => [`x-github-${i}`, "v".repeat(250)]);
    assert.equal(await status({ headers: { ...headers, ...Object.fromEntries(many) } }), 413);
    assert.equal(await status({ body: Buffer.alloc(700_001, "x") }), 413);
    assert.equal(await left(), 0);

    // The most that there may be still fits into a message.
    const body = Buffer.alloc(700_000, "\u00e9");
    const cookie = { cookie: "secret=1", authorization: "Bearer x", "x-hub-signature": "s" };
    const wide = Object.fromEntries(many.slice(0, 28));
    const all = { ...headers, ...wide, ...cookie };
    assert.equal(await status({ headers: all, body }, { isBase64: true }), 202);
    const seen: ForgeRequest[] = [];
    const watching: Intake = {
      ...intake(),
      receive: async (_, request) => {
        seen.push(request);
        return { jobs: [], repeated: false, note: "" };
      },
    };
    open({ intake: watching });
    await emptied();
    assert.ok(body.equals(seen[0]!.body));
    assert.equal(seen[0]!.address, "192.0.2.1");
    assert.deepEqual(
      Object.keys(seen[0]!.headers).toSorted(),
      ["content-type", "x-github-event", "x-hub-signature", ...Object.keys(wide)].toSorted(),
    );

    amazon.fault = () => ({ code: "OverLimit", status: 403 });
    assert.equal(await status({}), 503);
  });

  test("is looked at by doctor, and asks for what its policies grant and no more", async () => {
    const front = { queue, region: "us-east-1", accessKey: null };
    await put("waits");
    assert.deepEqual(await checkFront(front), {
      name: "queue",
      ok: true,
      detail: "1 event in it",
      mend: null,
    });
    const gone = await checkFront({ ...front, queue: `${queue}-not` });
    assert.deepEqual(
      [gone.ok, /NonExistentQueue|QueueDoesNotExist/.test(gone.detail)],
      [false, true],
    );
    open();
    await emptied();
    await send({ headers: { "content-type": "text/plain" }, body: Buffer.from("{}") });
    const granted = managerPermissions.filter(({ need }) => need === "front");
    assert.deepEqual(
      [...amazon.asked]
        .map((name) => name.replace("DeleteMessageBatch", "DeleteMessage"))
        .toSorted(),
      // The last is the function's own.
      [...granted.map(({ action }) => action), "sqs:SendMessage"].toSorted(),
    );
  });

  async function put(body: string): Promise<void> {
    const asked = { Action: "SendMessage", QueueUrl: queue, MessageBody: body };
    await amazon.query("sqs", { Version: "2012-11-05", ...asked });
  }
});

/** One whose messages come again after so long; by the proxy's address, which adds the faults. */
async function makeQueue(name: string, againSeconds = 300): Promise<string> {
  const visible = {
    "Attribute.1.Name": "VisibilityTimeout",
    "Attribute.1.Value": String(againSeconds),
  };
  const asked = { Version: "2012-11-05", Action: "CreateQueue", QueueName: name, ...visible };
  const told = await amazon.query("sqs", asked);
  const url = /<QueueUrl>([^<]+)/.exec(told)![1]!;
  return `${amazon.url}${new URL(url).pathname}`;
}
