import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { OpenApi } from "../../test/openapi.ts";
import { startWeb, token, type WebUnderTest } from "../../test/web.ts";
import { labelClass } from "../domain/matching.ts";
import { addArtifact, appendLog, type LogFrame } from "../store/logs.ts";
import { moveRunner } from "../store/runners.ts";

let web: WebUnderTest;
let api: OpenApi;

before(async () => {
  web = await startWeb();
  const answer = await fetch(`${web.url}/v1/openapi.json`);
  api = new OpenApi(await answer.json());
});
after(async () => {
  await web.close();
});

const bearer = { authorization: `Bearer ${token}` };

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Record<string, never>;
}

/** Asks, and holds the answer against the document. */
async function ask(path: string, init: RequestInit = {}, checked = true): Promise<Answer> {
  const answer = await fetch(web.url + path, init);
  const text = await answer.text();
  const type = answer.headers.get("content-type") ?? "";
  const json = /json/.test(type) ? (JSON.parse(text) as Record<string, never>) : {};
  const { pathname } = new URL(web.url + path);
  if (checked) api.check(init.method ?? "GET", pathname, answer.status, type, json);
  return { status: answer.status, headers: answer.headers, text, json };
}

function post(
  path: string,
  body: unknown,
  headers: Record<string, string> = bearer,
): Promise<Answer> {
  return ask(path, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    headers: { "content-type": "application/json", ...headers },
  });
}

async function refused(
  answer: Promise<Answer>,
  status: number,
  code: string,
  where?: string,
): Promise<Answer> {
  const got = await answer;
  assert.equal(got.status, status, got.text);
  assert.match(got.headers.get("content-type") ?? "", /problem\+json/);
  assert.equal(got.json.code, code);
  if (where !== undefined) assert.equal(got.json.where, where, got.text);
  return got;
}

function frames(count: number, from = 0): LogFrame[] {
  return Array.from({ length: count }, (_, index) => ({
    seq: from + index,
    at: 1_800_000_000_000 + index * 10,
    stream: index % 3 === 2 ? ("stderr" as const) : ("stdout" as const),
    bytes: Buffer.from(`line ${from + index}\n`),
  }));
}

test("the document is a sound OpenAPI 3.1 description of every route", () => {
  const { document } = api;
  assert.equal(document.openapi, "3.1.0");
  assert.equal(document.info.version, "0.0.0-test");
  const text = JSON.stringify(document);
  for (const [, name = ""] of text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
    assert.ok(document.components.schemas[name] !== undefined, `${name} is not defined`);
  }
  for (const { method, path, operation } of api.operations()) {
    assert.ok((operation.summary ?? "").length > 10, `${method} ${path} has no summary`);
    const named = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
    const declared = (operation.parameters ?? []).filter((one) => one.in === "path");
    assert.deepEqual(
      new Set(declared.map(({ name }) => name)),
      new Set(named),
      `${method} ${path}: its parameters`,
    );
    for (const { name, schema } of operation.parameters ?? []) {
      assert.ok(schema.type !== undefined || schema.enum !== undefined, `${path} ${name}: no type`);
    }
    for (const { description } of Object.values(operation.responses)) assert.ok(description);
  }
});

test("a job is submitted with defaults, and its environment's values stay hidden", async () => {
  const { status, headers, json } = await post("/v1/jobs", {
    command: ["npm", "test"],
    environment: { TOKEN: "hush-hush-hush" },
    source: { kind: "git", url: "https://ada:pass@git.example.org/x.git", revision: "main" },
  });
  assert.equal(status, 201);
  assert.equal(headers.get("location"), `/v1/jobs/${String(json.id)}`);
  const submitted = web.fleet.submitted.at(-1);
  assert.equal(submitted?.trust, "trusted");
  assert.equal(submitted?.timeoutSeconds, null);
  assert.deepEqual(submitted?.labels, []);

  const one = await ask(`/v1/jobs/${String(json.id)}`);
  assert.equal(one.status, 200);
  assert.doesNotMatch(one.text, /hush|pass@/);
  assert.deepEqual((one.json.work as unknown as { environmentNames: string[] }).environmentNames, [
    "TOKEN",
  ]);
});

test("a submission's fault is named by its field", async () => {
  await refused(post("/v1/jobs", { command: "npm test" }), 400, "invalid", "command");
  await refused(post("/v1/jobs", { command: ["x", 3] }), 400, "invalid", "command[1]");
  await refused(post("/v1/jobs", { comand: ["x"] }), 400, "invalid", "comand");
  await refused(post("/v1/jobs", { source: { kind: "svn" } }), 400, "invalid", "source.kind");
  const tree = { kind: "tree", sha256: "../../etc/passwd" };
  await refused(
    post("/v1/jobs", { command: ["x"], source: tree }),
    400,
    "invalid",
    "source.sha256",
  );
  await refused(post("/v1/jobs", { timeoutSeconds: -1 }), 400, "invalid", "timeoutSeconds");
  await refused(post("/v1/jobs", { name: "a\0b" }), 400, "invalid", "name");
  await refused(post("/v1/jobs", { command: ["a\0b"] }), 400, "invalid", "command[0]");
  await refused(post("/v1/jobs", {}), 400, "invalid", "command");
  await refused(post("/v1/jobs", "[]"), 400, "invalid");
  await refused(post("/v1/jobs", "null"), 400, "invalid");
  await refused(post("/v1/jobs", '{"command":'), 400, "invalid", "body");
  await refused(
    post("/v1/jobs", "x", { ...bearer, "content-type": "text/plain" }),
    400,
    "invalid",
    "content-type",
  );
  const latin = {
    method: "POST",
    body: Buffer.from([0x7b, 0xff]),
    headers: { ...bearer, "content-type": "application/json" },
  };
  await refused(ask("/v1/jobs", latin), 400, "invalid", "body");
  const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
  await refused(post("/v1/jobs", `{"command":${deep}}`), 400, "invalid");
});

test("a body that is too large is refused, said beforehand or not", async () => {
  const large = JSON.stringify({ command: ["x".repeat(10_000_000)] });
  await refused(post("/v1/jobs", large), 413, "too_large");
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(Buffer.from(large));
      controller.close();
    },
  });
  const headers = { ...bearer, "content-type": "application/json" };
  const chunked = { method: "POST", body, headers, duplex: "half" } as RequestInit;
  await refused(ask("/v1/jobs", chunked), 413, "too_large");
});

test("whatever writes takes the token, and the token alone", async () => {
  const submission = { command: ["true"] };
  await refused(post("/v1/jobs", submission, {}), 401, "unauthenticated", "authorization");
  const wrong = await refused(
    post("/v1/jobs", submission, { authorization: `Bearer ${token}x` }),
    401,
    "unauthenticated",
  );
  assert.match(wrong.headers.get("www-authenticate") ?? "", /^Bearer/);
  await refused(
    post("/v1/jobs", submission, { authorization: `Basic ${token}` }),
    401,
    "unauthenticated",
  );
  await refused(post("/v1/trees", "x", {}), 401, "unauthenticated");
  await refused(post("/v1/jobs/native-n1/cancel", {}, {}), 401, "unauthenticated");
  // Without it even a wrong path says nothing.
  await refused(ask("/v1/nothing", { method: "DELETE" }, false), 401, "unauthenticated");
  await refused(ask("/v1/nothing", { method: "DELETE", headers: bearer }, false), 404, "not_found");
});

test("a tree of ten megabytes goes through as it is", async () => {
  const tree = randomBytes(10_000_000);
  const headers = { ...bearer, "content-type": "application/x-tar" };
  const { status, json } = await ask("/v1/trees", { method: "POST", body: tree, headers });
  assert.equal(status, 201);
  assert.equal(json.sha256, createHash("sha256").update(tree).digest("hex"));
  assert.equal(json.bytes, tree.length);
});

test("a tree above the limit is refused, said beforehand or not", async () => {
  const small = await startWeb({ limits: { treeBytesMax: 1000 } });
  const send = (body: RequestInit["body"] & {}, more: object = {}): Promise<Response> =>
    fetch(`${small.url}/v1/trees`, { method: "POST", body, headers: bearer, ...more });
  assert.equal((await send(randomBytes(1001))).status, 413);
  const body = new ReadableStream({
    pull(controller) {
      controller.enqueue(randomBytes(600));
    },
  });
  const answer = await send(body, { duplex: "half" }).catch(() => null);
  // The answer may be lost behind what the client still sends; the upload is over either way.
  if (answer !== null) assert.equal(answer.status, 413);
  assert.equal((await send(randomBytes(999))).status, 201);
  await small.close();
});

test("jobs are listed by state and pool, and paged without losing any of one moment", async () => {
  const ids = Array.from({ length: 7 }, (_, index) => `page${index}`);
  for (const externalId of ids) await web.fleet.put({ externalId, labels: ["paged"] });
  const seen: string[] = [];
  let next: string | null = "";
  while (next !== null) {
    const more: string = next === "" ? "" : `&before=${encodeURIComponent(next)}`;
    const { json } = await ask(`/v1/jobs?state=waiting&pool=small&limit=2${more}`);
    const page = json as unknown as { jobs: { id: string; state: string }[]; next: string | null };
    assert.ok(page.jobs.length <= 2);
    assert.ok(page.jobs.every(({ state }) => state === "waiting"));
    seen.push(...page.jobs.map(({ id }) => id));
    next = page.next;
  }
  assert.equal(new Set(seen).size, seen.length, "none comes twice");
  for (const id of ids) assert.ok(seen.includes(`acme-${id}`), `${id} is lost`);
  assert.deepEqual((await ask("/v1/jobs?pool=other")).json.jobs, []);
  await refused(ask("/v1/jobs?state=asleep"), 400, "invalid", "state");
  await refused(ask("/v1/jobs?limit=0"), 400, "invalid", "limit");
  await refused(ask("/v1/jobs?limit=many"), 400, "invalid", "limit");
  await refused(ask("/v1/jobs?before=yesterday"), 400, "invalid", "before");
});

test("a job has its machine's cost, its history and its why", async () => {
  const price = { microUsdPerHour: 3_600_000, quantumSeconds: 1, minimumSeconds: 0 };
  await web.fleet.put({ externalId: "cost" });
  await web.fleet.machine("m-cost", "up", { price });
  web.clock.advance(10_000);
  await web.fleet.put({
    externalId: "cost",
    state: "started",
    runner: "m-cost",
    startedAt: web.clock.at,
  });
  const job = await ask("/v1/jobs/acme-cost");
  assert.equal(job.json.machine, "m-cost");
  assert.equal(job.json.costMicroUsd, 10_000);

  const { facts } = (await ask("/v1/jobs/acme-cost/history")).json as unknown as {
    facts: { kind: string }[];
  };
  assert.deepEqual(
    facts.map(({ kind }) => kind),
    ["seen", "started"],
  );
  const why = (await ask("/v1/why/acme-cost")).json as unknown as {
    kind: string;
    summary: string;
    because: { text: string }[];
  };
  assert.equal(why.kind, "job");
  assert.match(why.summary, /runs on m-cost \(box, 2 cpu, 4 GB, 20 GB disk\).*at \$3\.60 an hour/);
  assert.ok(why.because.some(({ text }) => text.startsWith("machine up")));
  assert.equal((await ask("/v1/why/m-cost")).json.kind, "machine");
  await refused(ask("/v1/why/nobody"), 404, "not_found", "id");
  await refused(ask("/v1/why/%00"), 400, "invalid", "id");
  await refused(ask("/v1/jobs/a%00b"), 400, "invalid", "id");
  await refused(ask("/v1/jobs?pool=%00"), 400, "invalid", "pool");
  await refused(ask("/v1/jobs/nobody"), 404, "not_found", "id");
  await refused(ask("/v1/jobs/nobody/history"), 404, "not_found", "id");
  await refused(ask("/v1/jobs/nobody/artifacts"), 404, "not_found", "id");
  await refused(ask("/v1/jobs/nobody/log"), 404, "not_found", "id");
});

test("a log is read by pages, as text, with marks, and cut characters survive", async () => {
  const job = await web.fleet.put({ externalId: "log" });
  const euro = Buffer.from("€ left\n");
  const written: LogFrame[] = [
    ...frames(5),
    { seq: 5, at: 1_800_000_000_060, stream: "stdout", bytes: euro.subarray(0, 1) },
    { seq: 6, at: 1_800_000_000_070, stream: "stderr", bytes: Buffer.from("oops\n") },
    { seq: 7, at: 1_800_000_000_080, stream: "stdout", bytes: euro.subarray(1) },
  ];
  await web.fleet.store.write((tx) => appendLog(tx, job.id, written));
  const path = `/v1/jobs/${job.id}/log`;

  const got: { seq: number; at: number; stream: string; text?: string; base64?: string }[] = [];
  let next: number | null = -1;
  while (next !== null) {
    const page = (await ask(`${path}?limit=3&after=${next}`)).json as unknown as {
      frames: typeof got;
      next: number | null;
    };
    got.push(...page.frames);
    next = page.next;
  }
  assert.deepEqual(
    got.map(({ seq, at, stream }) => ({ seq, at, stream })),
    written.map(({ seq, at, stream }) => ({ seq, at, stream })),
  );
  const bytes = got.map(({ text, base64 }) =>
    base64 === undefined ? Buffer.from(text ?? "") : Buffer.from(base64, "base64"),
  );
  assert.deepEqual(Buffer.concat(bytes), Buffer.concat(written.map((frame) => frame.bytes)));

  const text = await ask(`${path}?format=text`);
  assert.equal(text.headers.get("content-security-policy"), "sandbox");
  const raw = await fetch(web.url + path, { headers: { accept: "text/plain" } });
  assert.deepEqual(
    Buffer.from(await raw.arrayBuffer()),
    Buffer.concat(written.map((frame) => frame.bytes)),
  );
  const marked = (await ask(`${path}?format=text&marks`)).text.split("\n");
  assert.equal(marked[0], "2027-01-15T08:00:00.000Z out line 0");
  assert.ok(marked.includes("2027-01-15T08:00:00.070Z err oops"));
  assert.ok(marked.includes("2027-01-15T08:00:00.060Z out € left"));
  await refused(ask(`${path}?after=x`), 400, "invalid", "after");
  await refused(ask(`${path}?format=xml`), 400, "invalid", "format");
});

test("a log of ten megabytes comes whole as text, and by bounded pages", async () => {
  const job = await web.fleet.put({ externalId: "big" });
  const piece = Buffer.from(`${"x".repeat(65_535)}\n`);
  const many = Array.from({ length: 160 }, (_, seq) => ({
    seq,
    at: 1,
    stream: "stdout" as const,
    bytes: piece,
  }));
  await web.fleet.store.write((tx) => appendLog(tx, job.id, many));
  const { text } = await ask(`/v1/jobs/${job.id}/log?format=text`);
  assert.equal(text.length, 160 * 65_536);
  const page = await ask(`/v1/jobs/${job.id}/log?limit=1000`);
  assert.ok(page.text.length < 2_500_000, `${page.text.length} bytes in one page`);
  assert.notEqual(page.json.next, null);
});

test("artifacts are listed and downloaded, never shown", async () => {
  const job = await web.fleet.put({ externalId: "art" });
  const path = "out/<b>ü.html";
  const content = "<script>alert(1)</script>";
  const artifact = { path, size: content.length, sha256: "ab".repeat(32), at: web.clock.at };
  await web.fleet.store.write((tx) => addArtifact(tx, job.id, artifact));
  web.fleet.artifacts.set(`${job.id}/${path}`, content);
  const listed = await ask(`/v1/jobs/${job.id}/artifacts`);
  assert.deepEqual(listed.json.artifacts, [artifact]);

  const address = `/v1/jobs/${job.id}/artifacts/${path.split("/").map(encodeURIComponent).join("/")}`;
  const got = await ask(address);
  assert.equal(got.text, content);
  assert.equal(got.headers.get("content-type"), "application/octet-stream");
  assert.equal(got.headers.get("content-security-policy"), "sandbox");
  assert.equal(got.headers.get("x-content-type-options"), "nosniff");
  assert.equal(
    got.headers.get("content-disposition"),
    `attachment; filename="_b__.html"; filename*=UTF-8''%3Cb%3E%C3%BC.html`,
  );
  await refused(
    ask(`/v1/jobs/${job.id}/artifacts/out/..%2f..%2fetc/passwd`),
    404,
    "not_found",
    "path",
  );
});

test("a waiting native job is cancelled once", async () => {
  const { json } = await post("/v1/jobs", { command: ["sleep", "1"] });
  const path = `/v1/jobs/${String(json.id)}/cancel`;
  const cancelled = await post(path, { reason: "no longer needed" });
  assert.equal(cancelled.status, 202);
  assert.equal(cancelled.json.outcome, "cancelled");
  assert.equal(cancelled.json.reason, "no longer needed");
  await refused(post(path, {}), 409, "conflict");
  await refused(post("/v1/jobs/nobody/cancel", {}), 404, "not_found");
  await refused(post(path, { why: "x" }), 400, "invalid", "why");
  const bare = await fetch(`${web.url}/v1/jobs/nobody/cancel`, { method: "POST", headers: bearer });
  assert.equal(bare.status, 404, "a body is not needed");
});

test("runners and machines are listed, paged and shown with their history", async () => {
  for (const name of ["m-a", "m-b", "m-c"]) await web.fleet.machine(name, "asked");
  await web.fleet.store.write((tx) => moveRunner(tx, "m-c", "gone", { reason: "box confirms" }));
  const names = async (query: string, list: "machines" | "runners"): Promise<string[]> => {
    const { json } = await ask(`/v1/${list}${query}`);
    return (json[list] as unknown as { name: string }[]).map(({ name }) => name);
  };
  assert.ok((await names("?state=gone", "machines")).includes("m-c"));
  assert.ok(!(await names("?state=alive", "machines")).includes("m-c"));
  assert.ok((await names("?state=asked", "runners")).includes("m-a"));
  const first = (await ask("/v1/machines?limit=1")).json;
  const second = await names(
    `?limit=100&before=${encodeURIComponent(String(first.next))}`,
    "machines",
  );
  const all = await names("", "machines");
  const [newest] = first.machines as unknown as { name: string }[];
  assert.deepEqual([newest?.name, ...second], all);

  assert.equal((await ask("/v1/machines/m-a")).json.provider, "box");
  const { facts } = (await ask("/v1/machines/m-c/history")).json as unknown as {
    facts: { kind: string }[];
  };
  assert.deepEqual(
    facts.map(({ kind }) => kind),
    ["claimed", "asked", "gone"],
  );
  await refused(ask("/v1/machines/nobody"), 404, "not_found", "name");
  await refused(ask("/v1/machines/nobody/history"), 404, "not_found", "name");
  await refused(ask("/v1/machines?state=lost"), 400, "invalid", "state");
  await refused(ask("/v1/runners?limit=x"), 400, "invalid", "limit");
});

test("pools show their plan's reasons, providers what they lack", async () => {
  web.fleet.plans.set("small", {
    at: web.clock.at,
    actions: [
      {
        kind: "hold",
        labelClass: labelClass(["linux"]),
        count: 2,
        until: 5,
        reason: "2 jobs waiting: full",
      },
    ],
  });
  const { pools } = (await ask("/v1/pools")).json as unknown as {
    pools: { name: string; plan: { actions: { labels: string[]; reason: string }[] } }[];
  };
  assert.deepEqual(pools[0]?.plan.actions[0]?.labels, ["linux"]);
  const { providers } = (await ask("/v1/providers")).json as unknown as {
    providers: { checks: { ok: boolean; mend: string | null }[] }[];
  };
  assert.ok(providers[0]?.checks.some(({ ok, mend }) => !ok && mend === "Load the kvm module."));
});

test("an event goes to its forge as raw bytes, whatever host or site it names", async () => {
  const body = randomBytes(5000);
  const headers = {
    "x-signature": "good",
    "content-type": "application/json",
    origin: "https://evil.example",
    "x-forwarded-for": "9.9.9.9",
  };
  const { status, json } = await ask("/v1/forges/acme/events", { method: "POST", body, headers });
  assert.equal(status, 202);
  assert.equal(json.note, "a push is nothing to us");
  assert.deepEqual(Buffer.from(web.fleet.received.at(-1)?.body ?? []), body);
  await refused(
    post("/v1/forges/acme/events", {}, { "x-signature": "bad" }),
    401,
    "unauthenticated",
    "x-signature",
  );
  await refused(post("/v1/forges/nobody/events", {}, {}), 404, "not_found");
  const large = {
    method: "POST",
    body: randomBytes(6_000_000),
    headers: { "x-signature": "good" },
  };
  await refused(ask("/v1/forges/acme/events", large), 413, "too_large", "body");
});

test("what nobody foresaw is an internal error with a reference, and only the log knows more", async () => {
  const { native } = web.fleet;
  const submit = native.submit;
  native.submit = () => Promise.reject(new Error("the password is swordfish"));
  const { status, json, text } = await ask(
    "/v1/jobs",
    {
      method: "POST",
      body: '{"command":["x"]}',
      headers: { ...bearer, "content-type": "application/json" },
    },
    false,
  );
  native.submit = submit;
  assert.equal(status, 500);
  assert.equal(json.code, "internal");
  assert.doesNotMatch(text, /swordfish|server\.ts/);
  const logged = web.logged.find(({ fields }) => fields.reference === json.reference);
  assert.match(String(logged?.fields.error), /swordfish/);
});

test("health is open, readiness and metrics tell how it is", async () => {
  assert.equal((await ask("/healthz")).json.status, "ok");
  assert.equal((await ask("/readyz")).status, 200);
  web.fleet.isReady = false;
  const starting = await ask("/readyz");
  web.fleet.isReady = true;
  assert.equal(starting.status, 503);
  assert.equal(starting.json.detail, "starting");
  await refused(ask("/metrics"), 404, "not_found");
});

test("every documented answer of a reader's route was held against the document", () => {
  const due = api
    .operations()
    .flatMap(({ method, path, operation }) =>
      Object.keys(operation.responses).map((status) => ({ method, path, status: Number(status) })),
    )
    .filter(({ status }) => status < 300);
  const seen = [...api.seen];
  const missing = due.filter(({ method, path, status }) => {
    const pattern = new RegExp(`^${method} ${path.replaceAll(/\{[^}]+\}/g, ".+")} ${status}$`);
    return !seen.some((one) => pattern.test(one));
  });
  // These are held against it in the tests of metrics, of streams and of the broker.
  const elsewhere = /^\/(metrics|v1\/events|v1\/broker\b.*)$/;
  assert.deepEqual(
    missing.filter(({ path }) => !elsewhere.test(path)),
    [],
  );
});
