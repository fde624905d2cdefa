import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sampleRunner } from "../../domain/samples.ts";
import type { ForgeRequest } from "../forge.ts";
import { openWorld, type GithubWorld, type WorldSettings } from "./fake/world.ts";

const never = new AbortController().signal;
const context = { accept: ["trusted"], jobDeadlineSeconds: 60 } as const;
const hourMs = 3600_000;

/** A world under a clock of its own. */
class Timed {
  at = Date.parse("2026-03-01T10:00:00Z");
  readonly told: string[] = [];
  world!: GithubWorld;

  static async open(settings: Omit<WorldSettings, "now"> = {}): Promise<Timed> {
    const timed = new Timed();
    const log = (message: string): number => timed.told.push(message);
    timed.world = await openWorld({ ...settings, now: () => timed.at, log });
    return timed;
  }

  get questions(): string[] {
    return this.world.fake.records.map(({ method, path }) => `${method} ${path}`);
  }

  pass(ms: number): void {
    this.at += ms;
  }
}

async function within(
  settings: Omit<WorldSettings, "now">,
  run: (timed: Timed) => Promise<void>,
): Promise<void> {
  const timed = await Timed.open(settings);
  try {
    await run(timed);
  } finally {
    await timed.world.close();
  }
}

const runner = (name: string) => sampleRunner({ name, labels: ["self-hosted", "linux"] });
const job = { labels: ["linux"], trust: "trusted" } as const;

describe("events", () => {
  test("whose code it is, is asked once a run, or told by the run's own event", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      const { state } = fake;
      const run = state.run(state.repository("widget"), state.repository("stranger/widget"));
      const jobs = Array.from({ length: 5 }, () => state.job(run, ["linux"]));
      const all = await Promise.all(jobs.map(async (each) => forge.verify(state.jobEvent(each))));
      assert.deepEqual(
        all.map(({ sightings }) => sightings[0]?.trust),
        Array(5).fill("fork"),
      );
      assert.deepEqual(timed.questions, [`GET /repos/acme/widget/actions/runs/${run.id}`]);

      const told = state.run(state.repository("widget"), state.repository("widget"));
      await forge.verify(state.runEvent(told));
      const events = await forge.verify(state.jobEvent(state.job(told, ["linux"])));
      assert.equal(events.sightings[0]?.trust, "trusted");
      assert.equal(timed.questions.length, 1);
    }));

  test("when nobody says whose code it is, the event is to come again", () =>
    within({}, async ({ world }) => {
      const queued = await world.queue(job);
      const event = await world.event(queued);
      await world.outage("error");
      await assert.rejects(async () => world.forge.verify(event), { code: "unavailable" });
      await world.outage(null);
      assert.equal((await world.forge.verify(event)).sightings[0]?.trust, "trusted");
    }));

  test("a fork that is gone, and a target's pull request, are a stranger's", () =>
    within({}, async ({ world: { forge, fake } }) => {
      const { state } = fake;
      const repository = state.repository("widget");
      for (const head of [null, state.repository("stranger/widget")]) {
        const run = state.run(repository, head, "pull_request_target");
        const { sightings } = await forge.verify(state.jobEvent(state.job(run, ["linux"])));
        assert.equal(sightings[0]?.trust, "fork");
      }
    }));

  test("what is not about our jobs is taken with a note", () =>
    within({ options: { repositories: ["acme/wid*"] } }, async ({ world: { forge, fake } }) => {
      const { state } = fake;
      const noteOf = async (event: ForgeRequest): Promise<string> => {
        const { sightings, note } = await forge.verify(event);
        assert.deepEqual(sightings, []);
        return note;
      };
      const repository = (name: string) => state.repository(name);
      const eventOf = (name: string): ForgeRequest =>
        state.jobEvent(state.job(state.run(repository(name), repository(name)), ["linux"]));
      assert.match(await noteOf(eventOf("other/widget")), /not this forge's/);
      assert.match(await noteOf(eventOf("acme/gadget")), /not this forge's/);
      assert.match(await noteOf(state.sign("star", { action: "created" })), /tells of no jobs/);
      const gated = state.job(state.run(repository("widget"), repository("widget")), ["linux"]);
      gated.status = "waiting";
      assert.match(await noteOf(state.jobEvent(gated)), /does not ask for a runner yet/);
    }));

  test("what is signed and yet no event is refused by its place", () =>
    within({}, async ({ world: { forge, fake } }) => {
      const refused = async (event: ForgeRequest, where: string): Promise<void> =>
        assert.rejects(async () => forge.verify(event), { code: "invalid", where });
      const { state } = fake;
      await refused(state.sign("workflow_job", {}), "action");
      await refused(state.sign("workflow_job", { action: "queued" }), "workflow_job");
      await refused(state.sign("workflow_run", []), "");
      const form = state.sign("workflow_job", {});
      const headers = { ...form.headers, "content-type": "application/x-www-form-urlencoded" };
      await refused({ ...form, headers }, "Content-Type");
    }));

  test("only from where GitHub sends, also while it does not say", () =>
    within({ options: { addresses: "github" } }, async (timed) => {
      const { forge, fake } = timed.world;
      const ping = fake.state.sign("ping", {});
      const from = async (address: string | null) => forge.verify({ ...ping, address });
      await timed.world.outage("error");
      await assert.rejects(from("192.0.2.7"), { code: "unavailable" });
      await timed.world.outage(null);
      await from("192.0.2.7");
      await from("::ffff:192.0.2.7");
      await from("2001:db8::1");
      for (const stranger of ["192.0.3.1", "2001:db9::1", "nowhere", null]) {
        await assert.rejects(from(stranger), { code: "forbidden" });
      }
      timed.pass(2 * hourMs);
      await timed.world.outage("error");
      await from("192.0.2.7");
      const unsigned = { ...ping, headers: {}, address: "192.0.3.1" };
      await assert.rejects(async () => forge.verify(unsigned), { code: "unauthenticated" });
    }));

  test("an installation's suspension is told", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      await forge.verify(fake.state.sign("installation", { action: "suspend" }));
      assert.deepEqual(timed.told, ["the App's installation was suspended"]);
    }));
});

describe("polls", () => {
  test("ask only whether something changed, once they know", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      await timed.world.queue(job);
      await forge.poll(never);
      const before = fake.state.limit.remaining;
      for (let round = 0; round < 10; round++) {
        timed.pass(30_000);
        assert.equal((await forge.poll(never)).length, 1);
      }
      assert.equal(fake.state.limit.remaining, before);
    }));

  test("a queued job is given up after a day, as GitHub does", () =>
    within({}, async (timed) => {
      const { forge } = timed.world;
      await timed.world.queue(job);
      const [known] = await forge.poll(never);
      assert.ok(known !== undefined);
      timed.pass(25 * hourMs);
      assert.deepEqual(await forge.poll(never), []);
      const found = await forge.find?.(known, never);
      assert.deepEqual([found?.state, found?.outcome], ["ended", "lost"]);
    }));

  test("slow down with the quota, and leave a tenth for runners", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      const { limit } = fake.state;
      for (let n = 0; n < 200; n++) fake.state.repository(`r${n}`).pushedAt = 0;
      const asked = async (): Promise<number> => {
        const before = timed.questions.length;
        timed.pass(30_000);
        await forge.poll(never);
        return timed.questions.length - before;
      };
      await asked();
      limit.resetAt = timed.at + 10 * hourMs;
      const full = await asked();
      assert.ok(full > 90, `${full}`);
      limit.remaining = 1500;
      await forge.registrations(never);
      const slow = await asked();
      assert.ok(slow < full / 2, `${slow} of ${full}`);
      limit.remaining = 480;
      await forge.registrations(never);
      await assert.rejects(forge.poll(never), { code: "too_many" });
      await forge.handOver?.(runner("m1-p-1"), context, never);
      assert.equal(await forge.remove("m1-p-1", never), "gone");
      timed.pass(11 * hourMs);
      await forge.poll(never);
    }));

  test("a burst of runs takes some polls, and no more of the quota than others", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      const { state } = fake;
      const widget = state.repository("widget");
      for (let n = 0; n < 250; n++) state.job(state.run(widget, widget), ["linux"]);
      const shown: number[] = [];
      for (let poll = 0; poll < 3; poll++) {
        const before = timed.questions.length;
        timed.pass(30_000);
        shown.push((await forge.poll(never)).length);
        assert.ok(timed.questions.length - before <= 170, `${timed.questions.length - before}`);
      }
      assert.ok((shown[0] ?? 0) >= 100, "at once as many as there are questions");
      assert.equal(shown[1], 250, "and what was seen stays while others have their turn");
      assert.equal(shown[2], 250);
    }));

  test("a repository whose Actions are off does not keep the others from it", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      await timed.world.queue(job);
      fake.state.repository("off");
      const message = "GitHub Actions is disabled on this repository.";
      fake.state.faults.refusals.push({ part: "/acme/off/", status: 403, message });
      assert.equal((await forge.poll(never)).length, 1);
      assert.match(timed.told.join(), /switched off for this repository/);
    }));

  test("many quiet repositories take turns, at no cost while nothing changes", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      const { state } = fake;
      for (let n = 0; n < 249; n++) state.repository(`r${n}`).pushedAt = timed.at - 24 * hourMs;
      state.limit.resetAt = timed.at + 24 * hourMs;
      const polls = async (count: number): Promise<readonly string[]> => {
        const found = new Set<string>();
        for (let poll = 0; poll < count; poll++) {
          timed.pass(30_000);
          for (const { externalId } of await forge.poll(never)) found.add(externalId);
        }
        return [...found];
      };
      // Two lists of 250 repositories, 100 a poll.
      assert.deepEqual(await polls(6), []);
      const before = state.limit.remaining;
      // Nobody pushed: one waits in a run that has not begun, one in a run that has.
      const [first, second] = ["r77", "r177"].map((name) => {
        const repository = state.repository(name);
        return state.run(repository, repository, "schedule");
      });
      assert.ok(first !== undefined && second !== undefined);
      const waiting = state.job(first, ["linux"]);
      state.job(second, ["ubuntu-latest"]).status = "completed";
      const later = state.job(second, ["linux"]);
      const found = await polls(6);
      assert.ok(found.includes(String(waiting.id)) && found.includes(String(later.id)));
      assert.ok(before - state.limit.remaining <= 10, "only what changed counts");
    }));
});

describe("limits", () => {
  for (const [status, retryAfter, pauseMs] of [
    [403, 90, 90_000],
    [429, null, 60_000],
  ] as const) {
    test(`a secondary limit by ${status} is waited out, and nothing asked meanwhile`, () =>
      within({}, async (timed) => {
        const { forge, fake } = timed.world;
        fake.state.faults.secondary = { left: 1, status, retryAfter };
        await assert.rejects(forge.registrations(never), { code: "too_many" });
        const asked = timed.questions.length;
        timed.pass(pauseMs - 1000);
        await assert.rejects(forge.registrations(never), { code: "too_many" });
        await assert.rejects(forge.remove("m1-p-1", never), { code: "too_many" });
        assert.equal(timed.questions.length, asked);
        timed.pass(2000);
        assert.deepEqual(await forge.registrations(never), []);
      }));
  }

  test("a used-up hour is waited out, at once and without a question", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      fake.state.limit.remaining = 0;
      await assert.rejects(forge.registrations(never), { code: "too_many" });
      const asked = timed.questions.length;
      const refused = forge.handOver?.(runner("m1-p-1"), context, never);
      await assert.rejects(refused ?? Promise.resolve(), /all 5000 requests/);
      assert.equal(timed.questions.length, asked);
      timed.pass(hourMs + 1000);
      await forge.handOver?.(runner("m1-p-1"), context, never);
    }));

  test("a token's end is told days ahead, once a day", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      fake.state.tokenExpires = timed.at + 30 * 24 * hourMs;
      await forge.registrations(never);
      assert.deepEqual(timed.told, []);
      timed.pass(20 * 24 * hourMs);
      await forge.registrations(never);
      await forge.registrations(never);
      assert.deepEqual(timed.told, ["GitHub's token ends in 10 days; renew it"]);
    }));
});

describe("runners", () => {
  test("are of a group by its name, and one closed to public repositories is told", () =>
    within({ options: { group: "Builders" } }, async (timed) => {
      const { forge, fake } = timed.world;
      await forge.handOver?.(runner("m1-p-1"), context, never);
      await forge.handOver?.(runner("m1-p-2"), context, never);
      assert.deepEqual(
        [...fake.state.runners.values()].map(({ group }) => group),
        [5, 5],
      );
      assert.deepEqual(timed.told, ["the runner group gets no jobs of public repositories"]);
    }));

  test("of a group that is not there are refused with the ones that are", () =>
    within({ options: { group: "nope" } }, async ({ world: { forge } }) => {
      const refused = forge.handOver?.(runner("m1-p-1"), context, never) ?? Promise.resolve();
      await assert.rejects(refused, { code: "not_found", hint: /"Default", "builders"/ });
    }));

  test("are removed though the list's pages shift under us", () =>
    within({}, async (timed) => {
      const { forge, fake } = timed.world;
      for (let n = 0; n < 150; n++) await timed.world.registerOther(`other-${n}`);
      await forge.handOver?.(runner("m1-p-1"), context, never);
      fake.state.faults.shiftPages = true;
      assert.equal(await forge.remove("m1-p-1", never), "gone");
      assert.ok(!(await timed.world.registered()).includes("m1-p-1"));
    }));

  test("that work are left, by the flag or by GitHub's refusal when the flag is late", () =>
    within({}, async ({ world }) => {
      const { forge, fake } = world;
      fake.state.faults.staleBusy = true;
      await forge.handOver?.(runner("m1-p-1"), context, never);
      await world.start(await world.queue(job), "m1-p-1");
      assert.equal(await forge.remove("m1-p-1", never), "busy");
      const again = forge.handOver?.(runner("m1-p-1"), context, never) ?? Promise.resolve();
      await assert.rejects(again, { code: "conflict" });
      // Where even the refusal is late, the grace before a machine's end is what saves the job.
      fake.state.faults.removesBusy = true;
      assert.equal(await forge.remove("m1-p-1", never), "gone");
    }));

  test("under a name that a restarted manager does not know are made anew", () =>
    within({}, async ({ world }) => {
      await world.registerOther("m1-p-1");
      await world.forge.handOver?.(runner("m1-p-1"), context, never);
      assert.deepEqual(await world.registered(), ["m1-p-1"]);
    }));
});

test("each refusal has a sentence of its own", async () => {
  const cases: readonly (readonly [number, string, string, RegExp])[] = [
    [403, "Repository level self-hosted runners are disabled", "forbidden", /owners let no/],
    [403, "Actions is disabled on this repository", "forbidden", /switched off/],
    [403, "your IP address is not permitted to access this", "forbidden", /allowed addresses/],
    [403, "Resource not accessible by integration", "forbidden", /lacks a permission/],
    [403, "Resource not accessible by personal access token", "forbidden", /lacks a permission/],
    [403, "This installation has been suspended", "forbidden", /suspended/],
    [403, "Resource protected by organization SAML enforcement.", "forbidden", /single sign-on/],
    [422, "The group has reached max limit of 10000 runners", "too_many", /no more runners fit/],
    [401, "Bad credentials", "unauthenticated", /does not accept the credential/],
    [404, "Not Found", "not_found", /shows nothing there/],
    [500, "Server Error", "unavailable", /status 500/],
    [403, "Something new\n\u001b[31m", "forbidden", /refuses this: Something new \[31m$/],
  ];
  await within({}, async ({ world: { forge, fake } }) => {
    for (const [status, message, code, sentence] of cases) {
      fake.state.faults.refusals.splice(0, 1, { part: "/actions/runners", status, message });
      await assert.rejects(forge.registrations(never), { code, message: sentence }, message);
    }
  });
});

describe("redelivery", () => {
  test("what never arrived is sent again, some times and not for ever", async () => {
    const start = Date.now() + 6 * 60_000;
    let at = Date.now();
    // An App's key has times that octokit takes from the real clock.
    const world = await openWorld({ now: () => at, as: "app", keyNow: Date.now });
    try {
      const { state } = world.fake;
      const delivery = (id: number, guid: string, status: number, ageMs: number, event: string) =>
        state.deliveries.push({
          id,
          guid,
          at: start - ageMs,
          event,
          action: "queued",
          status,
          isAgain: false,
        });
      delivery(1, "lost", 502, 300_000, "workflow_job");
      delivery(2, "arrived-later", 500, 300_000, "workflow_job");
      delivery(3, "arrived-later", 200, 200_000, "workflow_job");
      delivery(4, "other", 500, 300_000, "star");
      delivery(5, "old", 500, 2 * hourMs, "workflow_job");
      delivery(6, "young", 500, 1_000, "workflow_job");
      delivery(7, "twice", 500, 300_000, "workflow_job");
      delivery(8, "twice", 500, 200_000, "workflow_job");
      await world.forge.poll(never);
      assert.deepEqual(state.redelivered, [], "not by whoever only looks");
      at = start;
      await world.forge.poll(never);
      assert.deepEqual(new Set(state.redelivered), new Set([1, 8]));
      await world.forge.poll(never);
      assert.equal(state.redelivered.length, 2, "not in each poll");
      for (let round = 0; round < 6; round++) {
        at += 6 * 60_000;
        await world.forge.poll(never);
      }
      assert.equal(state.redelivered.filter((id) => id === 1).length, 3);
    } finally {
      await world.close();
    }
  });
});

test("a revoked token is replaced by a new one", async () => {
  const world = await openWorld({ now: Date.now, as: "app" });
  try {
    const { tokens } = world.fake.state;
    await world.forge.registrations(never);
    for (const token of tokens) if (token.startsWith("ghs_")) tokens.delete(token);
    await assert.rejects(world.forge.registrations(never), { code: "unauthenticated" });
    assert.deepEqual(await world.forge.registrations(never), []);
  } finally {
    await world.close();
  }
});
