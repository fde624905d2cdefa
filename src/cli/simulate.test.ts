import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { after, before, describe, test } from "node:test";
import type { Browser } from "playwright-core";
import { chromiumMissing, faintTexts, launchChromium, openPage } from "../../test/browser.ts";
import { placed, sampleClaim, sampleSighting } from "../../test/samples.ts";
import { makeTrace } from "../../scripts/make-trace.ts";
import { parseConfig } from "../config/load.ts";
import type { Outcome } from "../sim/trace/outcome.ts";
import { recordSightings } from "../store/jobs.ts";
import { takeLease } from "../store/leases.ts";
import { moveRunner, recordClaims } from "../store/runners.ts";
import { Store } from "../store/store.ts";
import { changed } from "./simulate-settings.ts";
import { shortDuration } from "./simulate.ts";
import { mayfly, sampleJob, scratchFolder, StubServer, type Ended } from "./testing.ts";

const example = join(import.meta.dirname, "..", "..", "examples", "ci-trace.csv");

const config = `
pools:
  # Small jobs.
  small: { provider: podman, labels: [linux, x64], size: 1cpu1gb, max: 12, timeout: 4h }
`;

type Answer = {
  trace: { jobs: number; leftOut: Record<string, number> };
  notes: string[];
  results: (Outcome & { setting: string; policy: string })[];
};

async function setting(t: { after(fn: () => Promise<void>): void }): Promise<string> {
  const folder = await scratchFolder(t);
  await writeFile(join(folder, "mayfly.yaml"), config);
  return folder;
}

function answerOf(ended: Ended): Answer {
  assert.equal(ended.code, 0, ended.stderr);
  return JSON.parse(ended.stdout) as Answer;
}

describe("mayfly simulate", () => {
  test("the example that ships is what its generator makes", async () => {
    assert.equal(await readFile(example, "utf8"), makeTrace(1));
  });

  test("a table for people, within 80 columns, for each setting and policy", async (t) => {
    const folder = await setting(t);
    const words = ["--trace", example, "--set", "pools.small.warm=2", "--price", "0.09/h"];
    const { code, stdout, stderr } = await mayfly(["simulate", ...words], { folder });
    assert.equal(code, 0, stderr);
    const lines = stdout.split("\n");
    const start = lines.findIndex((line) => line.startsWith("POLICY"));
    const rows = lines.slice(start, lines.indexOf("", start));
    assert.ok(rows.every((line) => line.length <= 80));
    for (const policy of ["mayfly", "garm", "arc", "woodpecker"]) {
      assert.equal(lines.filter((line) => line.startsWith(`${policy} `)).length, 2, policy);
    }
    assert.match(stdout, /^2383 jobs of /);
    assert.match(stdout, /^mayfly\.yaml$/m);
    assert.match(stdout, /^pools\.small\.warm=2$/m);
    assert.match(stdout, /\$\d/);
    assert.match(stdout, /boot in 30 s \(assumed, nothing was measured\)/);
    assert.match(stdout, /A model:/);
  });

  test("judges only what comes after what was learned from", async (t) => {
    const folder = await setting(t);
    const some = ["--trace", example, "--policies", "mayfly", "--json", "--boot", "60s"];
    const learn = ["--set", "pools.small.learn=500h"];
    const { trace, results, notes } = answerOf(
      await mayfly(["simulate", ...some, ...learn, "--train", "0.6"], { folder }),
    );
    assert.ok(trace.jobs > 0 && trace.jobs < 2383);
    const [plain, learned] = results;
    assert.equal(plain?.jobs, trace.jobs);
    assert.ok(learned!.wait.meanSeconds < plain.wait.meanSeconds);
    assert.match(notes.join("\n"), /were only learned from; they are in no figure/);
    for (const part of ["1", "60%", "-0.1"]) {
      const { code, stderr } = await mayfly(["simulate", ...some, `--train=${part}`], { folder });
      assert.equal(code, 64, stderr);
      assert.match(stderr, /is no part of a trace/);
    }
  });

  test("JSON for programs; more machines wait less, warm ones cost more", async (t) => {
    const folder = await setting(t);
    const words = ["--set", "pools.small.max=3", "--set", "pools.small.max=40,pools.small.warm=3"];
    const some = ["--policies", "mayfly", "--price", "0.09/h", "--json", ...words];
    const { trace, results } = answerOf(
      await mayfly(["simulate", "--trace", example, ...some], { folder }),
    );
    assert.equal(trace.jobs, 2383);
    const [plain, few, warm] = results;
    assert.deepEqual(
      results.map(({ setting, policy }) => [setting, policy]),
      [
        ["mayfly.yaml", "mayfly"],
        ["pools.small.max=3", "mayfly"],
        ["pools.small.max=40,pools.small.warm=3", "mayfly"],
      ],
    );
    assert.ok(plain !== undefined && few !== undefined && warm !== undefined);
    assert.ok(few.wait.p95Seconds > plain.wait.p95Seconds);
    assert.ok(warm.wait.p50Seconds < plain.wait.p50Seconds);
    assert.ok(warm.microUsd > plain.microUsd);
    assert.equal(few.peakMachines, 3);
    assert.equal(plain.unserved + plain.unplaced, 0);
  });

  test("the same words give the same figures; another seed draws other boots", async (t) => {
    const folder = await setting(t);
    const words = [
      "simulate",
      "--trace",
      example,
      "--policies",
      "mayfly",
      "--boot",
      "5s-90s",
      "--json",
    ];
    const [one, same, other] = await Promise.all([
      mayfly(words, { folder }),
      mayfly(words, { folder }),
      mayfly([...words, "--seed", "2"], { folder }),
    ]);
    assert.equal(one.stdout, same.stdout);
    assert.notEqual(one.stdout, other.stdout);
  });

  test("jobs that no pool takes are told with the reason; --labels takes them in", async (t) => {
    const folder = await setting(t);
    const input = "queued_at,duration_s,labels\n0,60,ubuntu-latest\n5,60,linux\n9,,linux\n";
    const words = ["simulate", "--trace", "-", "--policies", "mayfly"];
    const { stdout } = await mayfly(words, { folder, input });
    assert.match(stdout, /! 1 job no pool takes: .*does not offer "ubuntu-latest"/);
    assert.match(stdout, /Left out: 1 row that never ran/);
    const more = [...words, "--labels", "linux,x64", "--json"];
    const { results } = answerOf(await mayfly(more, { folder, input }));
    assert.equal(results[0]?.unplaced, 0);
    assert.equal(results[0]?.jobs, 2);
  });

  test("where there are several providers, each one's part", async (t) => {
    const folder = await scratchFolder(t);
    await writeFile(
      join(folder, "mayfly.yaml"),
      `
providers: { here: { host: {} }, there: { host: {} } }
pools:
  small: { provider: here, labels: [linux], max: 9, size: 1cpu1gb }
  big: { provider: there, labels: [gpu], max: 9, size: 1cpu1gb }
`,
    );
    const input = "queued_at,duration_s,labels\n0,3570,linux\n5,7170,gpu\n";
    const words = ["--policies", "mayfly", "--boot", "28s", "--price", "there=1/h"];
    const { stdout } = await mayfly(["simulate", "--trace", "-", ...words], { folder, input });
    assert.match(stdout, /^ {2}mayfly: here 1\.0 h and there 2\.0 h for \$2\.00$/m);
  });

  test("slips of the pen are told with what to write", async (t) => {
    const folder = await setting(t);
    await writeFile(join(folder, "bad.csv"), "queued_at,duration_s\n0,1\n0,-1\n");
    await writeFile(
      join(folder, "latin.csv"),
      Buffer.from("queued_at,duration_s,name\n0,1,\xe4\n", "latin1"),
    );
    const cases: [words: string[], said: RegExp][] = [
      [["--trace", "bad.csv"], /bad\.csv:3: duration_s "-1" is below zero\n.*--skip-bad-rows/],
      [["--trace", "latin.csv"], /not UTF-8/],
      [["--trace", "none.csv"], /none\.csv cannot be read/],
      [[], /no history here yet\n.*--trace jobs\.csv/],
      [["--trace", example, "--policies", "mayflie"], /Did you mean "mayfly"/],
      [["--trace", example, "--set", "warm=2"], /"warm=2" is no change\n.*pools\.small\.warm=2/],
      [["--trace", example, "--set", "pools.small.warn=2"], /warn.*did you mean "warm"/s],
      [["--trace", example, "--boot", "soon"], /"soon" is no time to boot/],
      [["--trace", example, "--boot", "aws=20s"], /no provider "aws"\n.*podman/],
      [["--trace", example, "--price", "cheap"], /"cheap" is no price/],
      [["--trace", example, "--price", "1/h", "--billing", "x"], /"x" is no way to bill/],
      [["--trace", example, "--seed", "x"], /"x" is no seed/],
      [["--trace", example, "--config", "none.yaml"], /none\.yaml cannot be read/],
      [
        ["--trace", example, "--report", "no/where.html", "--policies", "mayfly"],
        /cannot be written/,
      ],
    ];
    for (const [words, said] of cases) {
      const { code, stdout, stderr } = await mayfly(["simulate", ...words], { folder });
      assert.notEqual(code, 0, words.join(" "));
      assert.notEqual(code, 70, stderr);
      assert.match(stderr, said);
      assert.equal(stdout, "");
    }
  });

  test("without a trace, this Mayfly's own history and the boots that it saw", async (t) => {
    const folder = await setting(t);
    await ownHistory(join(folder, "state"));
    const words = [
      "simulate",
      "--state",
      "state",
      "--policies",
      "mayfly",
      "--json",
      "--save",
      "own.csv",
    ];
    const own = answerOf(await mayfly(words, { folder }));
    assert.equal(own.trace.jobs, 6);
    assert.match(own.notes.join(), /podman boot in 7 s \(measured on 6 machines\)/);
    const again = [
      "simulate",
      "--state",
      "state",
      "--policies",
      "mayfly",
      "--json",
      "--trace",
      "own.csv",
    ];
    const saved = answerOf(await mayfly(again, { folder }));
    assert.deepEqual(saved.results, own.results);
  });

  test("the history of a server that runs elsewhere, page by page", async (t) => {
    const stub = await StubServer.start();
    t.after(() => stub.stop());
    const folder = await setting(t);
    const ended = (count: number, changes = {}) =>
      Array.from({ length: count }, () => sampleJob({ labels: ["linux"], ...changes }));
    stub.answers.set("GET /v1/jobs", (response, { url }) => {
      const isFirst = url.searchParams.get("before") === null;
      const jobs = isFirst ? ended(500) : ended(3, { startedAt: null });
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ jobs, next: isFirst ? "1:x" : null }));
    });
    stub.answers.set("GET /v1/machines", {
      machines: Array.from({ length: 9 }, () => ({
        provider: "podman",
        claimedAt: 1000,
        upAt: 13_000,
        startedAt: null,
      })),
      next: null,
    });
    const words = ["simulate", "--server", stub.url, "--policies", "mayfly", "--json"];
    const { trace, notes } = answerOf(
      await mayfly(words, { folder, environment: stub.environment }),
    );
    assert.equal(trace.jobs, 500);
    assert.deepEqual(trace.leftOut, { "never ran": 3 });
    assert.match(notes.join(), /boot in 12 s \(measured on 9 machines\)/);
  });

  test("a change leaves the rest of the file as it was", async () => {
    const text = changed(
      config,
      "pools.small.labels=[linux, arm64],pools.small.schedule=[{warm: 2}]",
    );
    assert.match(text, /# Small jobs\./);
    const surroundings = {
      kinds: { forges: {}, providers: {} },
      machine: { cpu: 4, memoryMb: 8192, diskGb: 100, gpu: 0, architecture: "x64" as const },
      stateFolder: "/nonexistent",
      environment: {},
      detect: () => Promise.resolve({ kind: "podman", warning: null }),
    };
    await assert.rejects(
      parseConfig(changed(text, "pools.small.max=-1"), null, surroundings),
      /max/,
    );
    assert.match(changed("", "pools.default.max=4"), /max: 4/);
  });

  test("lengths of time in few signs", () => {
    const said = [0, 0.4, 45, 60, 200, 3600, 8040, 273_600, 864_000].map(shortDuration);
    assert.deepEqual(said, ["0s", "0s", "45s", "1m", "3m20s", "1h", "2h14m", "3d4h", "10d"]);
  });
});

/** Six jobs that ran, one that waits, and machines that took seven seconds to come up. */
async function ownHistory(folder: string): Promise<void> {
  let now = Date.UTC(2026, 2, 2, 9);
  const store = await Store.open({ engine: "sqlite", folder }, () => now);
  const lease = await store.write((tx) => takeLease(tx, "pool/small", "test", 1e9));
  assert.ok(lease !== null);
  for (let index = 0; index < 7; index++) {
    const name = `mf-small-${index}`;
    const queued = sampleSighting({ externalId: `${index}`, labels: ["linux"], queuedAt: now });
    await store.write((tx) => recordSightings(tx, [placed(queued)]));
    if (index === 6) break;
    await store.write((tx) =>
      recordClaims(tx, lease, [sampleClaim(name, { provider: "podman" })], 99),
    );
    now += 7000;
    await store.write((tx) => moveRunner(tx, name, "up", { reason: "a test" }));
    const started = { ...queued, state: "started" as const, startedAt: now };
    now += 60_000;
    const over = { state: "ended" as const, outcome: "success" as const, endedAt: now };
    await store.write((tx) => recordSightings(tx, [placed({ ...started, ...over })]));
    now += 600_000;
  }
  await store.close();
}

describe("the report", { skip: chromiumMissing ?? false }, () => {
  let browser: Browser;
  before(async () => {
    browser = await launchChromium();
  });
  after(() => browser.close());

  test("a page that needs nothing else, readable in light, dark and on a phone", async (t) => {
    const folder = await setting(t);
    const words = ["--trace", example, "--set", "pools.small.warm=2", "--report", "out.html"];
    const { code, stderr } = await mayfly(["simulate", ...words, "--price", "0.09/h"], { folder });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /out\.html/);
    const file = join(folder, "out.html");
    const text = await readFile(file, "utf8");
    assert.doesNotMatch(text, /<script|\bsrc=|@import|url\(|<link/);
    for (const colorScheme of ["light", "dark"] as const) {
      const viewport = { width: colorScheme === "light" ? 360 : 1280, height: 800 };
      const { page, context } = await openPage(browser, { viewport, colorScheme });
      await page.goto(pathToFileURL(file).href);
      assert.equal(
        await page.getByRole("heading", { level: 1 }).textContent(),
        "2,383 jobs over 20 d 15 h, simulated.",
      );
      assert.deepEqual(await page.evaluate(faintTexts), [], colorScheme);
      const over = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      assert.equal(over, 0, `${colorScheme} is too wide`);
      assert.equal(await page.getByRole("img").count(), 8);
      await context.close();
    }
  });

  test("what comes from outside is shown, not obeyed", async (t) => {
    const folder = await setting(t);
    const nasty = "<img src=x onerror=alert(1)>";
    const input = `queued_at,duration_s,labels\n0,60,linux\n1,60,"[""${nasty}""]"\n`;
    const words = ["simulate", "--trace", "-", "--report", "out.html", "--policies", "mayfly"];
    await mayfly(words, { folder, input });
    const { page, context, complaints } = await openPage(browser);
    await page.setContent(await readFile(join(folder, "out.html"), "utf8"));
    assert.equal(await page.locator("img").count(), 0);
    assert.ok((await page.textContent("main"))?.includes(nasty));
    assert.deepEqual(complaints, []);
    await context.close();
  });
});
