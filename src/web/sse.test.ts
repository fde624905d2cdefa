import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startWeb, type WebUnderTest } from "../../test/web.ts";
import { addFacts } from "../store/facts.ts";
import { appendLog } from "../store/logs.ts";
import { findJob } from "../store/questions.ts";
import { updateJob } from "../store/jobs.ts";

let web: WebUnderTest;

before(async () => {
  web = await startWeb();
});
after(async () => {
  await web.close();
});

interface Event {
  readonly event: string;
  readonly id: string;
  readonly data: string;
}

/** A reader of server-sent events that can go away in the middle, as readers do. */
class Reader {
  readonly #abort = new AbortController();
  readonly #events: AsyncGenerator<Event>;
  readonly response: Response;

  private constructor(response: Response, abort: AbortController) {
    this.response = response;
    this.#abort = abort;
    this.#events = parse(response);
  }

  static async open(
    path: string,
    headers: Record<string, string> = {},
    from: WebUnderTest = web,
  ): Promise<Reader> {
    const abort = new AbortController();
    const response = await fetch(from.url + path, { headers, signal: abort.signal });
    assert.match(response.headers.get("content-type") ?? "", /^text\/event-stream/);
    return new Reader(response, abort);
  }

  async take(count: number): Promise<Event[]> {
    const events: Event[] = [];
    while (events.length < count) {
      const { done, value } = await this.#events.next();
      if (done === true) break;
      events.push(value);
    }
    return events;
  }

  close(): void {
    this.#abort.abort();
  }
}

async function* parse(response: Response): AsyncGenerator<Event> {
  let buffered = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    buffered += decoder.decode(chunk, { stream: true });
    for (let end = buffered.indexOf("\n\n"); end !== -1; end = buffered.indexOf("\n\n")) {
      const fields = buffered.slice(0, end).split("\n");
      buffered = buffered.slice(end + 2);
      const read = (name: string): string =>
        fields
          .filter((field) => field.startsWith(`${name}: `))
          .map((field) => field.slice(name.length + 2))
          .join("\n");
      if (read("event") !== "") yield { event: read("event"), id: read("id"), data: read("data") };
    }
  }
}

/** Until it holds, or a deadline. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 100_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error("it never came to hold");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Whether the server has noticed that all its readers are gone. */
async function isQuiet(from: WebUnderTest): Promise<boolean> {
  const answer = await fetch(`${from.url}/health`);
  return !/live stream/.test(await answer.text());
}

function say(subject: string, ...reasons: string[]): Promise<void> {
  const facts = reasons.map((reason) => ({
    subjectKind: "pool" as const,
    subject,
    kind: "noted" as const,
    reason,
  }));
  return web.fleet.store.write(async (tx) => {
    await addFacts(tx, facts);
    tx.wake(`pool/${subject}`);
  });
}

function reasons(events: readonly Event[]): string[] {
  return events.map(({ data }) => (JSON.parse(data) as { reason: string }).reason);
}

test("the history is streamed as it is written, and goes on where it broke", async () => {
  const first = await Reader.open("/v1/events");
  await say("a", "one", "two");
  const [one] = await first.take(1);
  assert.ok(one);
  assert.equal(one.event, "fact");
  first.close();
  await say("a", "three");

  const again = await Reader.open("/v1/events", { "last-event-id": one.id });
  assert.deepEqual(reasons(await again.take(2)), ["two", "three"]);
  await say("b", "four");
  assert.deepEqual(reasons(await again.take(1)), ["four"]);
  again.close();

  const only = await Reader.open(`/v1/events?after=${one.id}&subject=b`);
  assert.deepEqual(reasons(await only.take(1)), ["four"]);
  only.close();
  const wrong = await fetch(`${web.url}/v1/events`, { headers: { "last-event-id": "x" } });
  assert.equal(wrong.status, 400);
});

test("a log is followed to its end, resumed without loss, and ends with how the job did", async () => {
  const job = await web.fleet.put({ forge: "native", externalId: "follow" });
  const write = (
    seq: number,
    text: string,
    stream: "stdout" | "stderr" = "stdout",
  ): Promise<void> =>
    web.fleet.store.write((tx) =>
      appendLog(tx, job.id, [{ seq, at: 1000 + seq, stream, bytes: Buffer.from(text) }]),
    );
  await write(0, "a\n");
  const path = `/v1/jobs/${job.id}/log?follow`;
  const first = await Reader.open(path);
  await first.take(1);
  await write(1, "b\n", "stderr");
  const [second] = await first.take(1);
  assert.deepEqual(JSON.parse(second?.data ?? ""), {
    seq: 1,
    at: 1001,
    stream: "stderr",
    text: "b\n",
  });
  first.close();

  await write(2, "c\n");
  const again = await Reader.open(path, { "last-event-id": second?.id ?? "" });
  const [third] = await again.take(1);
  assert.equal(third?.id, "2");
  const before = await findJob(web.fleet.store.db, job.id);
  assert.ok(before);
  await write(3, "d");
  const end = { ...before, state: "ended", outcome: "failure", exitCode: 3, endedAt: 5 } as const;
  await web.fleet.store.write((tx) => updateJob(tx, before, end));
  const rest = await again.take(10);
  assert.deepEqual(
    rest.map(({ event }) => event),
    ["frame", "end"],
  );
  assert.deepEqual(JSON.parse(rest[1]?.data ?? ""), {
    state: "ended",
    outcome: "failure",
    exitCode: 3,
  });

  const whole = await Reader.open(`/v1/jobs/${job.id}/log?follow=true&after=1`);
  assert.deepEqual(
    (await whole.take(10)).map(({ id }) => id),
    ["2", "3", ""],
  );
});

test("a page's log comes painted: its end first, then lines, and what is unfinished", async () => {
  const job = await web.fleet.put({ forge: "native", externalId: "painted" });
  const write = (seq: number, text: string): Promise<void> =>
    web.fleet.store.write((tx) =>
      appendLog(tx, job.id, [{ seq, at: 1, stream: "stdout", bytes: Buffer.from(text) }]),
    );
  await write(0, "<b>\x1b[31mred\nhal");
  const reader = await Reader.open(`/jobs/${job.id}/live`);
  const [tail, rest] = await reader.take(2);
  assert.equal(tail?.event, "tail");
  assert.match(tail?.data ?? "", /<code>&lt;b&gt;<span class="ink-1">red<\/span><\/code>/);
  assert.equal(rest?.event, "rest");
  assert.match(rest?.data ?? "", /hal/);
  await write(1, "f\n");
  const [lines, none] = await reader.take(2);
  assert.equal(lines?.event, "lines");
  assert.match(lines?.data ?? "", /<span class="ink-1">half<\/span>/, "its colour lasts");
  assert.equal(none?.data, "");
  reader.close();
});

test("pages are told that something was decided, not that something was written", async () => {
  const job = await web.fleet.put({ forge: "native", externalId: "noted" });
  const reader = await Reader.open(`/live?topic=job/${job.id}`);
  assert.deepEqual(
    (await reader.take(1)).map(({ event }) => event),
    ["here"],
  );
  const frame = { seq: 0, at: 1, stream: "stdout" as const, bytes: Buffer.from("x") };
  await web.fleet.store.write((tx) => appendLog(tx, job.id, [frame]));
  await say("elsewhere", "no matter");
  await web.fleet.store.write(async (tx) => {
    await addFacts(tx, [{ subjectKind: "job", subject: job.id, kind: "noted", reason: "x" }]);
    tx.wake(`job/${job.id}`);
  });
  assert.deepEqual(
    (await reader.take(1)).map(({ event }) => event),
    ["changed"],
  );
  reader.close();
});

test("only so many streams are open, each that ends makes room, and HEAD takes none", async (t) => {
  const few = await startWeb({ limits: { streamsMax: 5 } });
  t.after(() => few.close());
  const openAll = (): Promise<Reader[]> =>
    Promise.all(Array.from({ length: 5 }, () => Reader.open("/v1/events", {}, few)));
  const readers = await openAll();
  const refused = await fetch(`${few.url}/v1/events`);
  assert.equal(refused.status, 503);
  assert.match(await refused.text(), /live streams are open already/);
  assert.equal(await isQuiet(few), false);
  for (const reader of readers) reader.close();
  await until(() => isQuiet(few));
  for (let index = 0; index < 10; index++) {
    assert.equal((await fetch(`${few.url}/v1/events`, { method: "HEAD" })).status, 200);
  }
  for (const reader of await openAll()) reader.close();
});

test("a reader that stops reading holds back only itself", async () => {
  const stuck = await fetch(`${web.url}/v1/events`);
  const reader = await Reader.open("/v1/events");
  const many = Array.from({ length: 2000 }, (_, index) => `${index} ${"x".repeat(900)}`);
  await say("flood", ...many);
  const events = await reader.take(2000);
  assert.equal(events.length, 2000);
  assert.deepEqual(new Set(events.map(({ id }) => id)).size, 2000);
  reader.close();
  await stuck.body?.cancel();
});

test("readers that leave at any moment are no trouble", async () => {
  for (let index = 0; index < 20; index++) {
    const abort = new AbortController();
    const answer = await fetch(`${web.url}/v1/events`, { signal: abort.signal });
    if (index % 2 === 0) await say("leaving", `${index}`);
    abort.abort();
    assert.equal(answer.status, 200);
  }
  await until(() => isQuiet(web));
  assert.deepEqual(web.logged, []);
});
