import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startWeb, token, type WebUnderTest } from "../../test/web.ts";
import { moveRunner } from "../store/runners.ts";
import { Metrics } from "./metrics.ts";

let web: WebUnderTest;
const metrics = new Metrics({ now: () => 1_800_000_000_000, version: "0.0.0-test" });

before(async () => {
  web = await startWeb({ metrics });
});
after(async () => {
  await web.close();
});

async function scrape(): Promise<string> {
  const answer = await fetch(`${web.url}/metrics`);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get("content-type") ?? "", /^text\/plain.*version=0\.0\.4/);
  return answer.text();
}

/** The value of a series, by its name and labels as they are written. */
function value(text: string, series: string): number | null {
  const line = text.split("\n").find((one) => one.startsWith(`${series} `));
  return line === undefined ? null : Number(line.slice(series.length + 1));
}

/** History counts once it has settled. */
async function until(holds: (text: string) => boolean): Promise<string> {
  const deadline = performance.now() + 100_000;
  for (;;) {
    const text = await scrape();
    if (holds(text)) return text;
    if (performance.now() > deadline) throw new Error(`it never came to hold:\n${text}`);
    web.clock.advance(1000);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("a started job is measured in four stages that sum to its whole wait", async () => {
  const queuedAt = web.clock.at - 1500;
  await web.fleet.put({ externalId: "1", queuedAt });
  web.clock.advance(40);
  await web.fleet.machine("m-1", "asked");
  web.clock.advance(6000);
  await web.fleet.store.write((tx) => moveRunner(tx, "m-1", "up", { reason: "x" }));
  web.clock.advance(700);
  await web.fleet.put({
    externalId: "1",
    queuedAt,
    state: "started",
    runner: "m-1",
    startedAt: web.clock.at,
  });
  const text = await until((one) =>
    one.includes('mayfly_job_up_to_started_seconds_count{pool="small"} 1'),
  );
  const stage = (name: string): number | null =>
    value(text, `mayfly_job_${name}_seconds_sum{pool="small"}`);
  assert.equal(stage("queued_to_seen"), 1.5);
  assert.equal(stage("seen_to_asked"), 0.04);
  assert.equal(stage("asked_to_up"), 6);
  assert.equal(stage("up_to_started"), 0.7);
  assert.equal(value(text, "mayfly_jobs_started"), 1);
  assert.equal(value(text, 'mayfly_machines{pool="small",state="busy"}'), 1);
});

test("ends are counted by outcome, machines by what they were good for", async () => {
  await web.fleet.put({
    externalId: "1",
    state: "ended",
    outcome: "failure",
    runner: "m-1",
    endedAt: web.clock.at,
  });
  for (const name of ["m-2", "m-3"]) await web.fleet.machine(name, name === "m-2" ? "up" : "asked");
  for (const name of ["m-1", "m-2", "m-3"]) {
    await web.fleet.store.write((tx) => moveRunner(tx, name, "gone", { reason: "x" }));
  }
  await web.fleet.put({ externalId: "2" });
  const gone = (use: string): string =>
    `mayfly_machines_gone_total{pool="small",provider="box",use="${use}"}`;
  const text = await until((one) => value(one, gone("none")) === 1);
  assert.equal(value(text, gone("job")), 1);
  assert.equal(value(text, gone("idle")), 1);
  assert.equal(value(text, 'mayfly_jobs_ended_total{pool="small",outcome="failure"}'), 1);
  assert.equal(value(text, 'mayfly_jobs_waiting{pool="small"}'), 1);
  assert.equal(value(text, 'mayfly_machines{pool="small",state="busy"}'), 0);
});

test("failed calls to providers are counted by class, and back-offs shown", async () => {
  metrics.observer.providerFailed("box", "create", "quota");
  metrics.observer.providerFailed("box", "create", "quota");
  const [box] = web.fleet.providerList;
  assert.ok(box);
  web.fleet.providerList = [{ ...box, backOff: { until: 1, failures: 1, reason: "x" } }];
  const text = await scrape();
  assert.equal(
    value(text, 'mayfly_provider_failures_total{provider="box",call="create",failure="quota"}'),
    2,
  );
  assert.equal(value(text, 'mayfly_provider_backed_off{provider="box"}'), 1);
  assert.ok((value(text, "process_cpu_seconds_total") ?? 0) > 0);
  assert.ok((value(text, "process_resident_memory_bytes") ?? 0) > 1e6);
  assert.equal(value(text, "process_start_time_seconds"), 1_800_000_000);
});

test("no series names a job, a machine, a repository or a label", async () => {
  for (let index = 0; index < 50; index++) {
    await web.fleet.put({
      externalId: `c${index}`,
      repository: `acme/r${index}`,
      labels: [`run-${index}`],
    });
  }
  const text = await until((one) => (value(one, 'mayfly_jobs_waiting{pool="small"}') ?? 0) > 50);
  assert.doesNotMatch(text, /acme-c|acme\/r|run-\d|m-[123]/);
  const series = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  assert.ok(series.length < 150, `${series.length} series`);
});

test("from afar metrics take the token", async () => {
  const far = { headers: { "x-forwarded-for": "9.9.9.9" } };
  assert.equal((await fetch(`${web.url}/metrics`, far)).status, 401);
  const bearing = { headers: { ...far.headers, authorization: `Bearer ${token}` } };
  assert.equal((await fetch(`${web.url}/metrics`, bearing)).status, 200);
});
