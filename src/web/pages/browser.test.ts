import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { chromiumMissing, faintTexts, launchChromium, openPage } from "../../../test/browser.ts";
import { startWeb, token, type WebUnderTest } from "../../../test/web.ts";
import { labelClass } from "../../domain/matching.ts";
import { addFacts } from "../../store/facts.ts";
import { updateJob } from "../../store/jobs.ts";
import { addArtifact, appendLog } from "../../store/logs.ts";
import { findJob, type StoredJob } from "../../store/questions.ts";
import { moveRunner } from "../../store/runners.ts";

const attack = `"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;
const hidden = "\u202ereversed";

describe("the dashboard in a browser", { skip: chromiumMissing ?? false }, () => {
  let web: WebUnderTest;
  let browser: Browser;
  let native: StoredJob;

  before(async () => {
    web = await startWeb({}, Date.UTC(2027, 0, 15, 12));
    browser = await launchChromium();
    native = await seed(web);
  });
  after(async () => {
    await browser.close();
    await web.close();
  });

  const pages = (): string[] => [
    "/",
    "/?window=7d",
    "/jobs",
    `/jobs/${native.id}`,
    "/jobs/acme-attack",
    "/jobs/acme-done",
    "/machines",
    "/machines?all",
    "/machines/m-run",
    "/pools",
    "/health",
    "/sign-in",
  ];

  for (const javaScriptEnabled of [true, false]) {
    const how = javaScriptEnabled ? "with" : "without";
    test(`every page reads ${how} JavaScript, and loads nothing it should not`, async () => {
      const { page, context, complaints } = await openPage(browser, { javaScriptEnabled });
      for (const path of pages()) {
        const answer = await page.goto(web.url + path);
        assert.equal(answer?.status(), 200, path);
        assert.equal(await page.locator("h1").count(), 1, path);
        assert.equal(await page.locator("main").count(), 1, path);
        assert.ok((await page.title()).endsWith("· Mayfly"), path);
      }
      await page.goto(web.url);
      assert.match(await text(page, "#waiting + *"), /docs/);
      assert.match(await text(page, "main"), /no room for it: 6 of at most 6/);
      assert.match(await text(page, "main"), /m-run\s+box, 2 cpu, 4 GB/);
      await page.goto(`${web.url}/jobs/${native.id}`);
      assert.match(await text(page, "#log-box"), /tests pass/);
      assert.deepEqual(complaints, []);
      await context.close();
    });
  }

  test("text from outside stays text, everywhere", async () => {
    const { page, context, complaints } = await openPage(browser);
    for (const path of pages()) {
      await page.goto(web.url + path);
      assert.equal(await page.evaluate('"pwned" in window'), false, path);
    }
    await page.goto(`${web.url}/jobs/acme-attack`);
    assert.match(await text(page, "h1"), /onerror="window\.pwned=1"/);
    assert.match(await text(page, ".labels"), /<script>/);
    assert.equal(await page.locator('a[href^="javascript:"]').count(), 0);
    await page.goto(`${web.url}/jobs/${native.id}`);
    assert.match(await text(page, "#log-box"), /<script>window\.pwned=1<\/script>/);
    assert.equal(await page.locator("#log-box img, #log-box script").count(), 0);
    assert.ok((await page.locator("#log-box .ink-1").count()) > 0, "colours are shown");
    assert.equal(await page.evaluate('"pwned" in window'), false);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  test("nothing is wider than a phone of 360 px, and tables become cards", async () => {
    const { page, context } = await openPage(browser, { viewport: { width: 360, height: 740 } });
    for (const path of pages()) {
      await page.goto(web.url + path);
      const over = await page.evaluate(tooWide);
      assert.equal(over, 0, `${path} is too wide`);
    }
    await page.goto(`${web.url}/jobs`);
    assert.equal(await styleOf(page, "table.cards td", "display"), "block");
    assert.equal(await page.getByRole("cell").first().isVisible(), true, "still cells of a table");
    await context.close();
  });

  for (const colorScheme of ["light", "dark"] as const) {
    test(`every text has contrast in the ${colorScheme}`, async () => {
      const { page, context } = await openPage(browser, { colorScheme });
      for (const path of pages()) {
        await page.goto(web.url + path);
        assert.deepEqual(await page.evaluate(faintTexts), [], path);
      }
      await context.close();
    });
  }

  test("the keyboard reaches everything: skip link, search, sections", async () => {
    const { page, context } = await openPage(browser);
    await page.goto(web.url);
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Skip to the content");
    await page.keyboard.press("Enter");
    await page.locator("#main:focus").waitFor();
    await page.keyboard.press("/");
    await page.locator("#find:focus").waitFor();
    await page.keyboard.type("m-run");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${web.url}/machines/m-run`);
    await page.keyboard.press("/");
    await page.locator("#find:focus").waitFor();
    await page.keyboard.type(native.id);
    await page.keyboard.press("Enter");
    await page.waitForURL(`${web.url}/jobs/${native.id}`);
    await page.goto(`${web.url}/find?id=nothing`);
    assert.match(await text(page, "h1"), /Nothing here/);
    await page.goto(`${web.url}/pools`);
    await page.locator("nav a").first().focus();
    await page.keyboard.press("Tab");
    assert.equal(await styleOf(page, "nav a:focus", "outlineStyle"), "solid", "focus can be seen");
    await context.close();
  });

  test("a job's output appears as it is written, and its end too", async () => {
    const { page, context, complaints } = await openPage(browser);
    const job = await startedJob(web, "live");
    await page.goto(`${web.url}/jobs/${job.id}`);
    await page.locator("#live-state.on").waitFor();
    assert.match(await text(page, "#log-box"), /No output yet/);
    await write(web, job.id, 0, "first line\nhalf");
    await page.locator("#log-lines li", { hasText: "first line" }).waitFor();
    await page.locator("#log-rest li", { hasText: "half" }).waitFor();
    await write(web, job.id, 1, " a line\n");
    await page.locator("#log-lines li", { hasText: "half a line" }).waitFor();
    await page.locator("#log-rest li").waitFor({ state: "detached" });
    await end(web, job.id);
    await page.locator(".badge.bad", { hasText: "failed" }).waitFor();
    assert.match(await text(page, "#log-box"), /first line/);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  test("an open overview shows a new job by itself", async () => {
    const { page, context } = await openPage(browser);
    await page.goto(web.url);
    await page.locator("#live-state.on").waitFor();
    const job = await web.fleet.put({ externalId: "sudden", name: "a sudden job" });
    await page.locator("[data-part=waiting] a", { hasText: "a sudden job" }).waitFor();
    await web.fleet.put({
      externalId: "sudden",
      state: "ended",
      outcome: "cancelled",
      endedAt: web.clock.at,
    });
    await page
      .locator("[data-part=waiting] a", { hasText: "a sudden job" })
      .waitFor({ state: "detached" });
    assert.ok(job.id);
    await context.close();
  });

  test("signing in and cancelling work without JavaScript", async () => {
    const job = await web.fleet.put({
      forge: "native",
      externalId: "cancelme",
      name: "cancel me",
      work,
    });
    const { page, context } = await openPage(browser, { javaScriptEnabled: false });
    await page.goto(`${web.url}/jobs/${job.id}`);
    await page.getByRole("link", { name: "Sign in" }).first().click();
    await page.getByLabel("Token").fill("not it");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator("[role=alert]", { hasText: "not the token" }).waitFor();
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(`${web.url}/jobs/${job.id}`);
    await page.getByText("Cancel this job").click();
    await page.getByRole("button", { name: "Yes, cancel it" }).click();
    await page.locator(".badge", { hasText: "cancelled" }).first().waitFor();
    assert.equal((await findJob(web.fleet.store.db, job.id))?.outcome, "cancelled");
    await page.getByRole("button", { name: "Sign out" }).click();
    const signIn = page.getByRole("link", { name: "Sign in" });
    await signIn.waitFor();
    assert.equal(await signIn.count(), 1);
    await context.close();
  });

  test("a log of ten megabytes opens at its end, in parts a browser can hold", async () => {
    const job = await startedJob(web, "large");
    const lines = Array.from(
      { length: 650 },
      (_, index) => `line ${index} ${"x".repeat(80)}\n`,
    ).join("");
    const frames = Array.from({ length: 180 }, (_, seq) => ({
      seq,
      at: web.clock.at + seq,
      stream: "stdout" as const,
      bytes: Buffer.from(lines.replaceAll("line ", `${seq} line `)),
    }));
    await web.fleet.store.write((tx) => appendLog(tx, job.id, frames));
    const { page, context, complaints } = await openPage(browser);
    await page.goto(`${web.url}/jobs/${job.id}`);
    await page.locator("#log-lines li", { hasText: /179 line 649 / }).waitFor();
    // Its end is in view.
    await page.waitForFunction(isAtEnd);
    assert.ok((await page.content()).length < 1_500_000);
    await page.getByRole("link", { name: "Earlier output" }).click();
    await page.waitForURL(/before=\d+#log$/);
    assert.equal(await page.locator("#log-lines li", { hasText: "179 line 649 " }).count(), 0);
    assert.ok((await page.locator("#log-lines li").count()) > 100);
    await page.getByRole("link", { name: "Its end" }).click();
    await page.locator("#log-lines li", { hasText: /179 line 649 / }).waitFor();
    assert.deepEqual(complaints, []);
    await context.close();
  });

  test("what is not there says so on a page, and leads back", async () => {
    const { page, context } = await openPage(browser);
    for (const path of ["/nothing", "/jobs/none", "/machines/none", "/jobs/%00"]) {
      const answer = await page.goto(web.url + path);
      assert.equal(answer?.status(), 404, path);
      assert.match(await text(page, "h1"), /Nothing here/, path);
    }
    await page.getByRole("link", { name: "Back to the overview" }).click();
    await page.waitForURL(`${web.url}/`);
    await context.close();
  });

  test("a first start says what to type", async (t) => {
    const fresh = await startWeb();
    t.after(() => fresh.close());
    const { page, context } = await openPage(browser);
    for (const [path, said] of [
      ["/", /mayfly submit --repo \./],
      ["/jobs", /mayfly submit/],
      ["/machines?all", /mayfly submit/],
    ] as const) {
      await page.goto(fresh.url + path);
      assert.match(await text(page, "main"), said, path);
    }
    fresh.fleet.pools = [];
    await page.goto(`${fresh.url}/pools`);
    assert.match(await text(page, "main"), /mayfly config schema/);
    await context.close();
  });
});

const work = {
  source: { kind: "none" } as const,
  command: ["sh", "-c", "npm test"],
  environment: { CI: "1" },
  timeoutSeconds: 60,
  artifacts: [],
};

/** How many pixels are beyond the right edge. */
const tooWide = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

const isAtEnd =
  "(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 5)(document.getElementById('log-box'))";

function styleOf(page: Page, selector: string, property: string): Promise<unknown> {
  const element = `document.querySelector(${JSON.stringify(selector)})`;
  return page.evaluate(`getComputedStyle(${element}).${property}`);
}

function text(page: Page, selector: string): Promise<string> {
  return page.locator(selector).first().innerText();
}

function focused(page: Page): Promise<unknown> {
  return page.evaluate("document.activeElement?.textContent");
}

async function write(web: WebUnderTest, job: string, seq: number, said: string): Promise<void> {
  const frame = { seq, at: web.clock.at, stream: "stdout" as const, bytes: Buffer.from(said) };
  await web.fleet.store.write((tx) => appendLog(tx, job, [frame]));
}

async function startedJob(web: WebUnderTest, externalId: string): Promise<StoredJob> {
  const job = await web.fleet.put({ forge: "native", externalId, name: externalId, work });
  const started = { ...job, state: "started", startedAt: web.clock.at } as const;
  await web.fleet.store.write((tx) => updateJob(tx, job, started));
  return job;
}

async function end(web: WebUnderTest, id: string): Promise<void> {
  const job = await findJob(web.fleet.store.db, id);
  assert.ok(job);
  const ended = {
    ...job,
    state: "ended",
    outcome: "failure",
    exitCode: 1,
    endedAt: web.clock.at,
  } as const;
  await web.fleet.store.write(async (tx) => {
    await updateJob(tx, job, ended);
    await addFacts(tx, [{ subjectKind: "job", subject: id, kind: "ended", reason: "failure" }]);
  });
}

/** Something of every kind, and as much mischief as fits. */
async function seed(web: WebUnderTest): Promise<StoredJob> {
  const { fleet, clock } = web;
  const price = { microUsdPerHour: 41_600, quantumSeconds: 1, minimumSeconds: 60 };
  await fleet.put({ externalId: "docs", name: "docs" });
  await fleet.put({
    externalId: "attack",
    name: `${attack}${hidden}`,
    repository: attack,
    labels: [attack, hidden, "x".repeat(200)],
    url: "javascript:window.pwned=1",
    state: "started",
    runner: attack,
    startedAt: clock.at,
  });
  await fleet.machine("m-run", "up", { price });
  await fleet.put({
    externalId: "run",
    name: "runs",
    state: "started",
    runner: "m-run",
    startedAt: clock.at,
  });
  clock.advance(90_000);
  for (const outcome of ["success", "failure", "lost", "cancelled"] as const) {
    const externalId = outcome === "success" ? "done" : outcome;
    const startedAt = clock.at - 60_000;
    await fleet.put({
      externalId,
      name: externalId,
      state: "ended",
      outcome,
      startedAt,
      endedAt: clock.at,
    });
  }
  await fleet.machine("m-boot", "asked", { price, labels: ["other"] });
  await fleet.machine("m-gone", "up");
  await fleet.store.write((tx) => moveRunner(tx, "m-gone", "gone", { reason: attack }));
  fleet.plans.set("small", {
    at: clock.at,
    actions: [
      { kind: "claim", labelClass: labelClass(["linux", attack]), count: 2, reason: attack },
      {
        kind: "hold",
        labelClass: null,
        count: 1,
        until: null,
        reason: "1 job waiting: 6 of at most 6 machines alive",
      },
    ],
  });
  const [box] = fleet.providerList;
  assert.ok(box);
  const backOff = { until: clock.at + 90_000, failures: 2, reason: `quota: ${attack}` };
  fleet.providerList = [box, { ...box, name: "ec2", backOff }];
  fleet.forgeList.push({ name: "codeberg", polledAt: null, failure: attack });

  const job = await startedJob(web, "native");
  await fleet.store.write((tx) =>
    appendLog(tx, job.id, [
      {
        seq: 0,
        at: clock.at,
        stream: "mayfly",
        bytes: Buffer.from("machine m-run took the job\n"),
      },
      { seq: 1, at: clock.at, stream: "stdout", bytes: Buffer.from("\x1b[32mtests pass\x1b[0m\n") },
      {
        seq: 2,
        at: clock.at,
        stream: "stderr",
        bytes: Buffer.from(`\x1b[31m${attack}\x1b]8;;javascript:1\x07link\n`),
      },
      {
        seq: 3,
        at: clock.at,
        stream: "stdout",
        bytes: Buffer.from([0xff, 0x00, 0x1b, 0x5b, 0x41, 0x0a]),
      },
    ]),
  );
  const artifact = { path: `out/${attack}`, size: 3, sha256: "a".repeat(64), at: clock.at };
  await fleet.store.write((tx) => addArtifact(tx, job.id, artifact));
  return job;
}
