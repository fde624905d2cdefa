import assert from "node:assert/strict";
import test, { after, afterEach, before } from "node:test";
import type { LogFrameView } from "../web/views.ts";
import { exit } from "./exit.ts";
import { mayfly, problem, Running, sampleJob, StubServer } from "./testing.ts";

let stub: StubServer;
before(async () => {
  stub = await StubServer.start();
});
after(() => stub.stop());
afterEach(() => {
  stub.answers.clear();
  stub.asked.length = 0;
});

const id = "native-k3f9abcdef";
const at = Date.parse("2026-01-01T00:00:00.000Z");
const frames: LogFrameView[] = [
  { seq: 0, at, stream: "stdout", text: "out 1\nout " },
  { seq: 1, at: at + 1000, stream: "stderr", text: "err 1\n" },
  {
    seq: 2,
    at: at + 2000,
    stream: "stdout",
    base64: Buffer.from([0x32, 0x0a, 0xff]).toString("base64"),
  },
];
const event = (frame: LogFrameView) =>
  `id: ${frame.seq}\nevent: frame\ndata: ${JSON.stringify(frame)}\n\n`;
const end = (outcome: string, exitCode: number | null) =>
  `event: end\ndata: ${JSON.stringify({ state: "ended", outcome, exitCode })}\n\n`;

/** A stream of events that breaks after each part, and goes on where it is asked to. */
function streamInParts(parts: readonly (readonly string[])[]): void {
  let part = 0;
  stub.answers.set(`GET /v1/jobs/${id}/log`, (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("retry: 2000\n\n");
    response.end((parts[part++] ?? []).join(""));
  });
}

const ask = (...args: string[]) => mayfly(args, { environment: stub.environment });

test("both streams on their own descriptors, page by page", async () => {
  stub.answers.set(`GET /v1/jobs/${id}`, sampleJob());
  stub.answers.set(`GET /v1/jobs/${id}/log`, (response, { url }) => {
    const after = Number(url.searchParams.get("after"));
    const page = frames.filter(({ seq }) => seq > after).slice(0, 2);
    const next = page.at(-1)?.seq === 2 ? null : (page.at(-1)?.seq ?? null);
    response.end(JSON.stringify({ frames: page, next }));
  });
  const { code, stdout, stderr } = await ask("logs", id);
  assert.equal(code, 0);
  assert.equal(stdout, "out 1\nout 2\n\ufffd", "the last byte is no UTF-8, and is there");
  assert.equal(stderr, "err 1\n");

  const timed = await ask("logs", "--timestamps", id);
  assert.equal(
    timed.stdout,
    "2026-01-01T00:00:00.000Z out 1\n2026-01-01T00:00:00.000Z out 2\n2026-01-01T00:00:02.000Z \ufffd\n",
  );
  assert.equal(timed.stderr, "2026-01-01T00:00:01.000Z err 1\n");

  const json = await ask("logs", "--json", id);
  assert.deepEqual(
    json.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown),
    frames,
  );
});

test("a stream that breaks goes on where it broke", async () => {
  stub.answers.set(`GET /v1/jobs/${id}`, sampleJob({ state: "started", outcome: null }));
  const [first, second, third] = frames.map(event);
  streamInParts([
    [first ?? ""],
    ["id: 1\nevent: fra"],
    [second ?? "", third ?? "", end("success", 0)],
  ]);
  const { code, stdout, stderr } = await ask("logs", "-f", id);
  assert.equal(code, 0);
  assert.equal(stdout, "out 1\nout 2\n\ufffd");
  assert.equal(stderr, "err 1\n");
  const asked = stub.asked.filter(({ url }) => url.pathname.endsWith("/log"));
  assert.deepEqual(
    asked.map(({ headers }) => headers["last-event-id"]),
    [undefined, "0", "0"],
  );
});

test("submit --wait shows the output and exits with the job's status", async () => {
  const cases: [
    outcome: "success" | "failure" | "timed_out" | "lost",
    code: number | null,
    status: number,
  ][] = [
    ["success", 0, 0],
    ["failure", 3, 3],
    ["failure", 137, 137],
    ["timed_out", null, exit.timedOut],
    ["lost", null, exit.temporary],
  ];
  for (const [outcome, exitCode, status] of cases) {
    const waiting = sampleJob({ state: "waiting", outcome: null, reason: "pool default takes it" });
    stub.answers.set("POST /v1/jobs", waiting);
    stub.answers.set(`GET /v1/jobs/${id}`, sampleJob({ outcome, exitCode }));
    streamInParts([[...frames.map(event), end(outcome, exitCode)]]);
    const { code, stdout, stderr } = await ask("submit", "--wait", "--no-repo", "--", "make");
    assert.equal(code, status, outcome);
    assert.equal(stdout, "out 1\nout 2\n\ufffd");
    assert.match(stderr, /^mayfly: native-k3f9abcdef: pool default takes it$/m);
    assert.match(stderr, /^err 1$/m);
    assert.match(stderr, /on m1-default-9x2y8z7w/);
  }
});

test("with --json standard output is the job alone", async () => {
  stub.answers.set("POST /v1/jobs", sampleJob({ state: "waiting", outcome: null }));
  stub.answers.set(`GET /v1/jobs/${id}`, sampleJob());
  streamInParts([[...frames.map(event), end("success", 0)]]);
  const { stdout, stderr } = await ask("submit", "--json", "--wait", "--no-repo", "--", "make");
  assert.deepEqual(JSON.parse(stdout), sampleJob());
  assert.match(stderr, /out 1\nout /);
});

test("an interrupt cancels the job and waits for its end; a second one leaves", async () => {
  for (const isPatient of [true, false]) {
    let finish = (): void => {};
    stub.answers.set("POST /v1/jobs", sampleJob({ state: "waiting", outcome: null }));
    stub.answers.set(`GET /v1/jobs/${id}`, sampleJob({ outcome: "cancelled", exitCode: null }));
    stub.answers.set(`GET /v1/jobs/${id}/log`, (response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(event(frames[0] as LogFrameView));
      finish = () => response.end(end("cancelled", null));
    });
    stub.answers.set(`POST /v1/jobs/${id}/cancel`, (response) => {
      response.end(JSON.stringify(sampleJob({ state: "started", outcome: null })));
      if (isPatient) finish();
    });
    const running = new Running(["submit", "--wait", "--no-repo", "--", "make"], {
      environment: stub.environment,
    });
    await running.printed("stdout", /out 1/);
    running.child.kill("SIGINT");
    await running.printed("stderr", /cancelling native-k3f9abcdef; once more to leave at once/);
    if (!isPatient) running.child.kill("SIGINT");
    const { code, stderr } = await running.ended;
    assert.equal(code, exit.interrupted);
    assert.match(stderr, isPatient ? /was cancelled/ : /left; native-k3f9abcdef is still being/);
    assert.ok(stub.asked.some(({ url }) => url.pathname.endsWith("/cancel")));
  }
});

test("a reader that goes away ends it quietly", async () => {
  stub.answers.set(`GET /v1/jobs/${id}`, sampleJob({ state: "started", outcome: null }));
  stub.answers.set(`GET /v1/jobs/${id}/log`, (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const timer = setInterval(() => response.write(event(frames[0] as LogFrameView)), 1);
    response.on("close", () => clearInterval(timer));
  });
  const running = new Running(["logs", "-f", id], { environment: stub.environment });
  await running.printed("stdout", /out 1/);
  running.child.stdout?.destroy();
  const { code, stderr } = await running.ended;
  assert.equal(code, exit.brokenPipe);
  assert.equal(stderr, "");
});

test("a job that is refused mid-way is told", async () => {
  stub.answers.set(`GET /v1/jobs/${id}`, sampleJob());
  stub.answers.set(`GET /v1/jobs/${id}/log`, (response) =>
    problem(response, 403, "forbidden", "not from here"),
  );
  const { code, stderr } = await ask("logs", "-f", id);
  assert.equal(code, exit.forbidden);
  assert.match(stderr, /not from here/);
});
