import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { MayflyError } from "../domain/errors.ts";
import { readTrace } from "../sim/trace/read.ts";
import { pastJobsOf, type HistoryFlags } from "./forge-history.ts";
import type { PastJob } from "./simulate-sources.ts";

const now = Date.UTC(2026, 2, 31);
const day = 86_400_000;

interface FakeJob {
  readonly name: string;
  readonly attempt?: number;
  readonly conclusion?: string | null;
  readonly created_at?: string | null;
  readonly started_at?: string | null;
  readonly completed_at?: string | null;
}

/** A forge that shows what it has as GitHub and Gitea do: by pages, windows and limits. */
class FakeHistory {
  readonly runs: { id: number; status: string; at: number; jobs: FakeJob[] }[] = [];
  readonly asked: string[] = [];
  /** Answered first, one a request. */
  readonly refusals: { status: number; headers?: Record<string, string> }[] = [];
  /** GitHub's: runs shown of one question at most. */
  shownMax = 1000;
  token = "secret";
  /** A next page of this address, whatever there is. */
  nextElsewhere: string | null = null;

  addRun(at: number, jobs: FakeJob[], status = "completed"): void {
    this.runs.push({ id: this.runs.length + 1, status, at, jobs });
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "", `http://${request.headers.host}`);
    this.asked.push(`${url.pathname}${url.search}`);
    const send = (status: number, body: unknown, headers: Record<string, string> = {}): void => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(JSON.stringify(body));
    };
    const refusal = this.refusals.shift();
    if (refusal !== undefined) return send(refusal.status, { message: "no" }, refusal.headers);
    if (request.headers.authorization !== `Bearer ${this.token}`) return send(401, {});
    const isGitea = url.pathname.startsWith("/api/v1/");
    const path = url.pathname.replace(/^\/api\/v[13]\/repos\/acme\/widget\/actions\//, "");
    const size = Number(url.searchParams.get(isGitea ? "limit" : "per_page"));
    if (path === "runs") {
      const list = this.#shown(url.searchParams.get("created"));
      const runs = list.map(({ id, status, at }) =>
        isGitea ? { id, status, started_at: iso(at) } : { id, status, created_at: iso(at) },
      );
      return this.#page(url, runs, size, (some) => send2(send, "workflow_runs", runs, some));
    }
    const run = this.runs.find(({ id }) => path === `runs/${id}/jobs`);
    if (run === undefined) return send(404, {});
    const all = url.searchParams.get("filter") === "all" || isGitea;
    const latest = Math.max(...run.jobs.map(({ attempt = 1 }) => attempt));
    const jobs = run.jobs
      .filter(({ attempt = 1 }) => all || attempt === latest)
      .map((job, index) => ({ id: run.id * 100 + index, labels: ["linux"], ...job }));
    this.#page(url, jobs, size, (some) => send2(send, "jobs", jobs, some));
  }

  #shown(created: string | null): FakeHistory["runs"] {
    const [, from, to] = /^(?:>=)?([^.]+)(?:\.\.(.+))?$/.exec(created ?? "") ?? [];
    return this.runs
      .filter(({ at }) => from === undefined || at >= Date.parse(from))
      .filter(({ at }) => to === undefined || at <= Date.parse(to))
      .toSorted((a, b) => b.at - a.at)
      .slice(0, created === null ? undefined : this.shownMax);
  }

  #page<T>(
    url: URL,
    all: readonly T[],
    size: number,
    send: (some: { items: readonly T[]; headers: Record<string, string> }) => void,
  ): void {
    const page = Number(url.searchParams.get("page") ?? 1);
    const next = new URL(url);
    next.searchParams.set("page", String(page + 1));
    const first = new URL(url);
    first.searchParams.set("page", "1");
    const more = page * size < all.length ? next.href : this.nextElsewhere;
    const link = `<${first.href}>; rel="first"${more === null ? "" : `, <${more}>; rel="next"`}`;
    send({ items: all.slice((page - 1) * size, page * size), headers: { link } });
  }
}

function send2<T>(
  send: (status: number, body: unknown, headers: Record<string, string>) => void,
  name: string,
  all: readonly T[],
  { items, headers }: { items: readonly T[]; headers: Record<string, string> },
): void {
  send(200, { total_count: all.length, [name]: items }, headers);
}

function iso(at: number): string {
  return new Date(at).toISOString().replace(/\.\d+/, "");
}

function jobAt(at: number, name: string, more: Partial<FakeJob> = {}): FakeJob {
  const times = { created_at: iso(at), started_at: iso(at + 5000), completed_at: iso(at + 65_000) };
  return { name, conclusion: "success", ...times, ...more };
}

describe("a history fetched from a forge", () => {
  let forge = new FakeHistory();
  let server: Server;
  let folder = "";
  let from = "";
  let waits: number[] = [];

  before(() => {
    server = createServer((request, response) => forge.answer(request, response));
    return new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  after(() => server.close());
  beforeEach(() => {
    forge = new FakeHistory();
    folder = mkdtempSync(join(tmpdir(), "mayfly-history-"));
    from = `github:http://127.0.0.1:${(server.address() as AddressInfo).port}/acme/widget`;
    waits = [];
    process.env["HISTORY_TOKEN"] = "secret";
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  async function fetched(flags: HistoryFlags = {}, place = from): Promise<PastJob[]> {
    const world = {
      now: () => now,
      wait: (ms: number) => Promise.resolve(waits.push(ms)),
    };
    const jobs: PastJob[] = [];
    const all = pastJobsOf(place, { token: "env:HISTORY_TOKEN", ...flags }, () => {}, world);
    for await (const job of all) jobs.push(job);
    return jobs;
  }

  const faultOf = (flags: HistoryFlags, place = from): Promise<MayflyError> =>
    fetched(flags, place).then(
      () => assert.fail("it was fetched"),
      (error: unknown) => {
        assert.ok(error instanceof MayflyError, String(error));
        return error;
      },
    );

  test("runs by pages, jobs by pages, with the attempts before the last", async () => {
    for (let run = 0; run < 250; run++) forge.addRun(now - run * 1000, [jobAt(now, "unit")]);
    const many = Array.from({ length: 230 }, (_, index) => jobAt(now, `matrix ${index}`));
    forge.addRun(now - day, [...many, jobAt(now, "again", { attempt: 2 })]);
    const jobs = await fetched();
    assert.equal(jobs.length, 250 + 231);
    assert.deepEqual(jobs[0], {
      queuedAt: now,
      startedAt: now + 5000,
      endedAt: now + 65_000,
      labels: ["linux"],
      trust: "trusted",
      name: "unit",
      repository: "acme/widget",
      conclusion: "success",
    });
  });

  test("past the most that GitHub shows of one question, it is asked again", async () => {
    forge.shownMax = 120;
    for (let run = 0; run < 500; run++) forge.addRun(now - run * 60_000, [jobAt(now, `${run}`)]);
    const names = (await fetched()).map(({ name }) => name);
    assert.equal(new Set(names).size, 500);
    assert.equal(names.length, 500);
  });

  test("only as far back as asked, and only runs that are over", async () => {
    forge.addRun(now - day, [jobAt(now, "over")]);
    forge.addRun(now - day, [jobAt(now, "runs")], "in_progress");
    forge.addRun(now - 3 * day, [jobAt(now, "old")]);
    assert.deepEqual(
      (await fetched({ since: "2d" })).map(({ name }) => name),
      ["over"],
    );
  });

  test("jobs that never ran have no times, and a skipped one none to believe", async () => {
    forge.addRun(now - day, [
      jobAt(now, "cancelled", { conclusion: "cancelled", started_at: null, completed_at: null }),
      jobAt(now, "skipped", { conclusion: "skipped" }),
      jobAt(now, "no creation", { created_at: null }),
      jobAt(now, "nothing", { created_at: null, started_at: null }),
    ]);
    assert.deepEqual(
      (await fetched()).map(({ name, queuedAt, startedAt }) => [name, queuedAt, startedAt]),
      [
        ["cancelled", now, null],
        ["skipped", now, null],
        ["no creation", now + 5000, now + 5000],
      ],
    );
  });

  test("a spent limit is waited for as long as it says, in each of its ways", async () => {
    forge.addRun(now - day, [jobAt(now, "unit")]);
    const reset = String(now / 1000 + 90);
    forge.refusals.push(
      { status: 429, headers: { "retry-after": "7" } },
      { status: 403, headers: { "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset } },
      { status: 429 },
      { status: 502 },
    );
    assert.equal((await fetched()).length, 1);
    assert.deepEqual(waits, [7000, 91_000, 60_000, 16_000]);
  });

  test("a refusal that no waiting mends is told at once, without the token", async () => {
    forge.token = "another";
    const fault = await faultOf({});
    assert.equal(fault.code, "forbidden");
    assert.match(fault.hint ?? "", /GITHUB_TOKEN/);
    assert.doesNotMatch(`${fault.message}${fault.hint}`, /secret/);
    forge.refusals.push({ status: 403 });
    assert.equal((await faultOf({})).code, "forbidden");
    assert.deepEqual(waits, []);
  });

  test("a server that stays broken is given up", async () => {
    for (let time = 0; time < 20; time++) forge.refusals.push({ status: 503 });
    assert.equal((await faultOf({})).code, "unavailable");
    assert.equal(forge.asked.length, 8);
  });

  test("a next page on another server is not followed: the token would go along", async () => {
    forge.addRun(now - day, [jobAt(now, "unit")]);
    forge.nextElsewhere = "http://127.0.0.2:1/steal";
    assert.match((await faultOf({})).message, /another server/);
  });

  test("what is kept is a trace, and is gone on with where it was left", async () => {
    for (let run = 0; run < 5; run++) {
      forge.addRun(now - run * 60_000, [jobAt(now, `a,"${run}"\nb`), jobAt(now, "z")]);
    }
    const save = join(folder, "jobs.csv");
    assert.equal((await fetched({ save })).length, 10);
    const whole = readFileSync(save, "utf8");
    assert.equal((await readTrace([whole], { file: save })).count, 10);
    // Cut short in the midst of the last run.
    truncateSync(save, statSync(save).size - 10);
    forge.addRun(now, [jobAt(now, "new")]);
    forge.asked.length = 0;
    const jobs = await fetched({ save });
    assert.equal(jobs.length, 11);
    assert.equal(new Set(jobs.map(({ name }) => name)).size, 7);
    const fetchedRuns = forge.asked.filter((path) => path.includes("/jobs")).length;
    assert.equal(fetchedRuns, 2);
    assert.equal((await readTrace([readFileSync(save, "utf8")], { file: save })).count, 11);
  });

  test("a file that is something else is left alone", async () => {
    const save = join(folder, "package.json");
    writeFileSync(save, "{}");
    assert.equal((await faultOf({ save })).code, "conflict");
    assert.equal(readFileSync(save, "utf8"), "{}");
  });

  test("Gitea: no windows, runs without a creation, and the year 1 for what never was", async () => {
    const place = from.replace("github:", "gitea:");
    for (let run = 0; run < 150; run++) forge.addRun(now - run * 1000, [jobAt(now, `${run}`)]);
    const never = "0001-01-01T00:00:00Z";
    forge.addRun(now, [jobAt(now, "never", { started_at: never, completed_at: never })]);
    const jobs = await fetched({}, place);
    assert.equal(jobs.length, 151);
    assert.equal(jobs.find(({ name }) => name === "never")?.startedAt, null);
    assert.ok(
      forge.asked.every((path) => path.startsWith("/api/v1/") && !path.includes("created")),
    );
  });

  test("slips of the pen", async () => {
    assert.match((await faultOf({}, "github.com/acme/widget")).hint ?? "", /github:OWNER/);
    assert.match((await faultOf({ token: "ghp_abc" })).message, /no place of a token/);
    assert.doesNotMatch((await faultOf({ token: "ghp_abc" })).message, /ghp_/);
    assert.equal((await faultOf({ token: "file:/nowhere" })).code, "not_found");
    assert.equal((await faultOf({ since: "a while" })).where, "--since");
  });
});
