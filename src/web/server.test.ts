import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { startWeb, token, type WebUnderTest } from "../../test/web.ts";
import { MayflyError } from "../domain/errors.ts";
import { parseListen } from "./listen.ts";

const open: WebUnderTest[] = [];

async function start(...given: Parameters<typeof startWeb>): Promise<WebUnderTest> {
  const web = await startWeb(...given);
  open.push(web);
  return web;
}
after(async () => {
  for (const web of open) await web.close();
});

/** For what must happen, on however slow a machine. */
const patienceMs = 100_000;

const bearer = { authorization: `Bearer ${token}` };

/** Asks with headers that `fetch` would not let through. */
function ask(
  address: { url: string } | { socketPath: string },
  path: string,
  headers: Record<string, string> = {},
  method = "GET",
): Promise<{
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}> {
  const place =
    "url" in address
      ? { host: new URL(address.url).hostname, port: new URL(address.url).port }
      : { socketPath: address.socketPath };
  return new Promise((resolve, reject) => {
    const sent = request({ ...place, path, method, headers, agent: false }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      answer.on("end", () =>
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }),
      );
    });
    sent.on("error", reject).end();
  });
}

/** Sends bytes as they are; resolves to all that came back once the server hangs up. */
function talk(url: string, ...pieces: string[]): { socket: Socket; closed: Promise<string> } {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let got = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => (got += chunk));
  const closed = new Promise<string>((resolve) => {
    socket.once("close", () => resolve(got));
    socket.on("error", () => {});
  });
  for (const piece of pieces) socket.write(piece);
  return { socket, closed };
}

/**
 * Begins to speak and then only drips, until the server hangs up; resolves to what it said. A drip
 * that crosses its words makes TCP reset the connection and may lose them: then once more.
 */
async function trickle(url: string, pieces: readonly string[], drip: string): Promise<string> {
  for (let tries = 1; ; tries++) {
    const { socket, closed } = talk(url, ...pieces);
    const dripping = setInterval(() => socket.write(drip), 50);
    const got = await closed.finally(() => clearInterval(dripping));
    if (got !== "" || tries === 20) return got;
  }
}

/** Asks until the answer has this status. */
async function untilStatus(status: number, send: () => Promise<Response>): Promise<void> {
  const until = performance.now() + patienceMs;
  for (;;) {
    const answer = await send();
    await answer.body?.cancel();
    if (answer.status === status) return;
    assert.ok(performance.now() < until, `it never came to ${status}: ${answer.status}`);
  }
}

function rejects(promise: Promise<unknown>, code: string, hint: RegExp): Promise<void> {
  return assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof MayflyError, String(error));
    assert.equal(error.code, code);
    assert.match(`${error.message} ${error.hint ?? ""}`, hint);
    return true;
  });
}

test("an address that others can reach needs a token of some length", async () => {
  await rejects(startWeb({ listen: "0.0.0.0:0", token: null }), "invalid", /no token/);
  await rejects(startWeb({ listen: "[::]:0", token: null }), "invalid", /no token/);
  await rejects(startWeb({ listen: "0.0.0.0:0", token: "short" }), "invalid", /openssl rand/);
});

test("where it is exposed, reading takes the token too; health, forges and guests do not", async () => {
  const web = await start({ listen: "0.0.0.0:0" });
  const url = web.url.replace("0.0.0.0", "127.0.0.1");
  for (const path of ["/v1/jobs", "/v1/events", "/metrics", "/v1/openapi.json", "/v1/nothing"]) {
    assert.equal((await fetch(url + path)).status, 401, path);
    assert.notEqual(
      (await fetch(url + path, { headers: bearer, method: "HEAD" })).status,
      401,
      path,
    );
  }
  const page = await fetch(`${url}/jobs?state=ended`, { redirect: "manual" });
  assert.equal(page.status, 303);
  assert.equal(page.headers.get("location"), "/sign-in?to=%2Fjobs%3Fstate%3Dended");
  assert.equal((await fetch(`${url}/healthz`)).status, 200);
  const ready = (await (await fetch(`${url}/readyz`)).json()) as object;
  assert.deepEqual(ready, { status: "ok" }, "no detail for strangers");
  assert.equal((await fetch(`${url}/v1/forges/nobody/events`, { method: "POST" })).status, 404);
  assert.equal((await fetch(`${url}/v1/guest/work`, { method: "POST" })).status, 401);
});

test("a page whose name was rebound to this machine reads nothing", async () => {
  const web = await start();
  assert.equal((await ask(web, "/v1/jobs")).status, 200);
  assert.equal((await ask(web, "/v1/jobs", { host: "evil.example" })).status, 401);
  assert.equal((await ask(web, "/v1/jobs", { host: "evil.example", ...bearer })).status, 200);
  assert.equal((await ask(web, "/jobs", { host: "evil.example" })).status, 303);
  assert.equal((await ask(web, "/v1/jobs", { "x-forwarded-for": "9.9.9.9" })).status, 401);
  const foreign = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" };
  assert.equal((await ask(web, "/v1/events", foreign)).status, 403);
});

test("every answer tells browsers to be strict", async () => {
  const web = await start();
  for (const path of ["/", "/jobs", "/v1/jobs", "/nothing", "/v1/jobs/nothing", "/sign-in"]) {
    const { headers } = await ask(web, path, { accept: "text/html" });
    const policy = String(headers["content-security-policy"]);
    assert.match(policy, /default-src 'none'.*frame-ancestors 'none'/, path);
    assert.doesNotMatch(policy, /unsafe/, path);
    assert.equal(headers["x-content-type-options"], "nosniff", path);
    assert.equal(headers["cache-control"], "no-store", path);
  }
  const { text } = await ask(web, "/", { accept: "text/html" });
  assert.doesNotMatch(text, /<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=/);
  const [, asset = ""] = /href="(\/assets\/[^"]+\.css)"/.exec(text) ?? [];
  assert.match(String((await ask(web, asset)).headers["cache-control"]), /immutable/);
});

test("a form takes effect only from its own session's page", async () => {
  const web = await start();
  const job = await web.fleet.put({
    forge: "native",
    externalId: "f1",
    work: {
      source: { kind: "none" },
      command: ["x"],
      environment: {},
      timeoutSeconds: 1,
      artifacts: [],
    },
  });
  const post = (
    path: string,
    form: Record<string, string>,
    headers: Record<string, string> = {},
  ): Promise<Response> =>
    fetch(web.url + path, {
      method: "POST",
      body: new URLSearchParams(form),
      headers,
      redirect: "manual",
    });
  const path = `/jobs/${job.id}/cancel`;
  assert.equal((await post(path, {})).status, 401);
  assert.equal((await post("/sign-in", { token: "wrong", to: "/" })).status, 401);

  const signed = await post("/sign-in", { token, to: "//evil.example" });
  assert.equal(signed.headers.get("location"), "/");
  const cookie = signed.headers.get("set-cookie") ?? "";
  assert.match(cookie, /HttpOnly/);
  assert.match(cookie, /SameSite=Strict/);
  assert.equal(cookie.includes(token), false);
  const session = { cookie: cookie.split(";")[0] ?? "" };
  assert.equal((await post(path, { form: "guess" }, session)).status, 403);
  assert.equal((await post(path, {}, session)).status, 403);
  const html = await (await fetch(`${web.url}/jobs/${job.id}`, { headers: session })).text();
  const [, form = ""] = /name="form" value="([a-f0-9]{64})"/.exec(html) ?? [];
  const foreign = { ...session, origin: "https://evil.example" };
  assert.equal((await post(path, { form }, foreign)).status, 403);
  assert.equal((await post("/v1/jobs", {}, session)).status, 401, "the API takes no cookie");
  const done = await post(path, { form }, { ...session, origin: web.url });
  assert.equal(done.status, 303);
  assert.equal((await post(path, { form }, session)).status, 409, "it is over");
  assert.equal((await post("/sign-out", { form: "x" }, session)).status, 403);
  assert.equal((await post("/sign-out", { form }, session)).status, 303);
});

test("without a token nothing can be changed, by nobody", async () => {
  const web = await start({ token: null });
  const answer = await fetch(`${web.url}/v1/jobs`, {
    method: "POST",
    headers: { authorization: "Bearer " },
  });
  assert.equal(answer.status, 403);
  assert.match(await answer.text(), /has no token/);
  assert.equal((await fetch(`${web.url}/v1/jobs`)).status, 200);
});

test("a head that trickles in is cut off", async () => {
  const web = await start({ limits: { headersMs: 300 } });
  const got = await trickle(web.url, ["GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"], "X-Slow: 1\r\n");
  assert.match(got, /^HTTP\/1\.1 408/);
});

test("a body that trickles in is given up, and the connection closed", async () => {
  const web = await start({ limits: { bodyMs: 300 } });
  const head = `POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n`;
  const got = await trickle(web.url, [head, "{"], " ");
  assert.match(got, /^HTTP\/1\.1 400/);
  assert.match(got, /was not here within 0\.3 s/);
});

test("a connection that says nothing is closed", async () => {
  const web = await start({ limits: { silenceMs: 300 } });
  assert.equal(await talk(web.url).closed, "");
});

test("only so many connections are open, and each that ends makes room", async () => {
  const web = await start({ limits: { connectionsMax: 3 } });
  const held = Array.from({ length: 3 }, () => talk(web.url));
  await Promise.all(
    held.map(({ socket }) => new Promise((resolve) => socket.once("connect", resolve))),
  );
  assert.equal(await talk(web.url, "GET /healthz HTTP/1.1\r\n\r\n").closed, "");
  for (const { socket } of held) socket.destroy();
  await untilStatus(200, () =>
    fetch(`${web.url}/healthz`).catch(() => new Response(null, { status: 503 })),
  );
});

test("bodies held in memory are bounded over all requests together", async () => {
  const web = await start({ limits: { heldBytesMax: 1_000_000, bodyMs: 10 * patienceMs } });
  const head = (length: number): string =>
    `POST /v1/forges/acme/events HTTP/1.1\r\nHost: x\r\nX-Signature: good\r\nContent-Length: ${length}\r\n\r\n`;
  const slow = talk(web.url, head(900_000), "x".repeat(800_000));
  const send = (): Promise<Response> =>
    fetch(`${web.url}/v1/forges/acme/events`, {
      method: "POST",
      body: "x".repeat(500_000),
      headers: { "x-signature": "good" },
    });
  await untilStatus(503, send);
  slow.socket.destroy();
  // What was held is given back.
  await untilStatus(202, send);
});

test("an event is taken by every spelling of its path, and only posted", async () => {
  const web = await start();
  const send = (path: string, method = "POST"): Promise<string> =>
    talk(
      web.url,
      `${method} ${path} HTTP/1.1\r\nHost: x\r\nX-Signature: good\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}`,
    ).closed;
  const path = "/v1/forges/acme/events";
  for (const spelling of [path, `${path}?again=1`, "/v1/forges/%61cme/events", `http://x${path}`]) {
    const [head, body] = (await send(spelling)).split("\r\n\r\n");
    assert.match(head ?? "", /^HTTP\/1\.1 202 [^]*content-type: application\/json/i, spelling);
    assert.equal((JSON.parse(body ?? "") as { note: string }).note, "a push is nothing to us");
  }
  for (const other of ["/v1/forges/acme/events/", "/v1/forges/acme/other", "/v1/forges//events"]) {
    assert.match(await send(other), /^HTTP\/1\.1 401/, other);
  }
  assert.match(await send("/v1/forges/nobody/events"), /^HTTP\/1\.1 404/);
  assert.match(await send(path, "PUT"), /^HTTP\/1\.1 401/);
  assert.match(await send(path, "GET"), /^HTTP\/1\.1 401/);
});

test("malformed requests are answered and hurt nobody", async () => {
  const web = await start();
  const closing = "Connection: close\r\n\r\n";
  const get = (line: string, more = ""): Promise<string> =>
    talk(web.url, `${line}\r\nHost: localhost\r\n${more}${closing}`).closed;
  assert.match(await get("GET /jobs/%ff%00 HTTP/1.1"), /^HTTP\/1\.1 404/);
  assert.match(await get("GET /jobs/%E0%A4%A HTTP/1.1"), /^HTTP\/1\.1 4\d\d/);
  assert.match(await get("GET /../../etc/passwd HTTP/1.1"), /^HTTP\/1\.1 404/);
  assert.match(await get("GET /assets/..%2f..%2fserver.ts HTTP/1.1"), /^HTTP\/1\.1 404/);
  assert.match(await get(`GET /v1/jobs/${"x".repeat(5000)} HTTP/1.1`), /^HTTP\/1\.1 400/);
  assert.match(
    await get("GET / HTTP/1.1", `X-Large: ${"x".repeat(20_000)}\r\n`),
    /^HTTP\/1\.1 431/,
  );
  assert.match(await get("BREW / HTTP/1.1"), /^HTTP\/1\.1 4\d\d/);
  assert.match(await talk(web.url, "\x16\x03\x01 hello\r\n\r\n").closed, /^HTTP\/1\.1 400/);
  assert.equal((await fetch(`${web.url}/healthz`)).status, 200);
});

test("guests reach their routes over the socket, whoever they are, and nothing else", async () => {
  const web = await start();
  const mode = (path: string): number => statSync(path).mode & 0o777;
  assert.equal(mode(web.socket), 0o666);
  assert.equal(mode(join(web.socket, "..")), 0o711);
  const over = { socketPath: web.socket };
  assert.equal((await ask(over, "/v1/guest/work", {}, "POST")).status, 401);
  for (const path of ["/", "/v1/jobs", "/healthz", "/metrics", "/v1/openapi.json"]) {
    assert.equal((await ask(over, path, bearer)).status, 404, path);
  }
});

test("a socket left behind is replaced; one in use, or a file, is not", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mayfly-socket-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const inUse = join(folder, "used.sock");
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(inUse, resolve));
  await rejects(startWeb({ guestSocket: inUse }), "conflict", /another process serves/);
  other.close();

  const file = join(folder, "file.sock");
  writeFileSync(file, "precious");
  await rejects(startWeb({ guestSocket: file }), "conflict", /no socket/);
  await rejects(
    startWeb({ guestSocket: join(folder, "x".repeat(120)) }),
    "invalid",
    /shorter --state/,
  );

  const stale = join(folder, "stale.sock");
  // A socket nobody listens on: made by a process that was killed.
  const code = `require("net").createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", code]);
  assert.ok(statSync(stale).isSocket());
  mkdirSync(join(folder, "deep"), { recursive: true });
  const web = await start({ guestSocket: stale });
  assert.equal((await ask({ socketPath: stale }, "/v1/guest/work", {}, "POST")).status, 401);
  assert.ok(web.url);
});

// Elsewhere a full queue refuses like a socket that nobody serves.
const notLinux = process.platform === "linux" ? false : "needs Linux";
test("a socket whose owner is too busy to answer is kept", { skip: notLinux }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "mayfly-socket-"));
  const path = join(folder, "busy.sock");
  const code = `require("net").createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 },
    () => console.log("listening"))`;
  const owner = spawn(process.execPath, ["-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  after(() => {
    owner.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });
  await once(owner.stdout, "data");
  owner.kill("SIGSTOP");
  const callers: Socket[] = [];
  after(() => callers.forEach((caller) => caller.destroy()));
  const call = (): Promise<string> =>
    new Promise((resolve) => {
      const caller = connect(path, () => resolve("connected"));
      caller.on("error", ({ code: error }: NodeJS.ErrnoException) => resolve(error ?? ""));
      callers.push(caller);
    });
  let answer = "connected";
  while (answer === "connected") answer = await call();
  assert.equal(answer, "EAGAIN");
  await rejects(startWeb({ guestSocket: path }), "conflict", /another process serves/);
});

test("a taken port, a strange address and a name without one are told apart", async () => {
  const web = await start();
  const { port } = new URL(web.url);
  await rejects(startWeb({ listen: `127.0.0.1:${port}` }), "conflict", /another program/);
  await rejects(startWeb({ listen: "203.0.113.9:0" }), "invalid", /no address of this machine/);
  for (const listen of [
    "",
    "8420",
    "127.0.0.1",
    "127.0.0.1:99999",
    "127.0.0.1:x",
    "[::1:80",
    ":80",
  ]) {
    await rejects(parseListen(listen), "invalid", /no address to listen on/);
  }
  assert.deepEqual(await parseListen("[::1]:80"), { host: "::1", port: 80, isLoopback: true });
  assert.equal((await parseListen("localhost:0")).isLoopback, true);
  assert.equal((await parseListen("0.0.0.0:0")).isLoopback, false);
});

test("closing ends streams at once, lets a request end, and hangs up on the rest", async () => {
  const web = await startWeb({ limits: { closeMs: 3_000 } });
  const stream = await fetch(`${web.url}/v1/events`);
  const reading = stream.text();
  const hanging = talk(
    web.url,
    "POST /v1/forges/acme/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
  );
  await new Promise((resolve) => hanging.socket.once("connect", resolve));
  const slow = fetch(`${web.url}/v1/trees`, {
    method: "POST",
    headers: bearer,
    body: "a small tree",
  });
  assert.equal((await slow).status, 201);
  await web.close();
  assert.match(await reading, /^retry: 2000/);
  await hanging.closed;
  await assert.rejects(fetch(`${web.url}/healthz`));
});

test("an upload that breaks off is given up and makes room for the next", async () => {
  const web = await start({ limits: { treesAtOnce: 1 } });
  const head = `POST /v1/trees HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\nContent-Length: 1000\r\n\r\n`;
  const { socket, closed } = talk(web.url, head, "part of a tree");
  const send = (): Promise<Response> =>
    fetch(`${web.url}/v1/trees`, { method: "POST", headers: bearer, body: "whole" });
  // One at a time.
  await untilStatus(503, send);
  socket.destroy();
  await closed;
  await untilStatus(201, send);
});
