import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MayflyError } from "../domain/errors.ts";
import type { JobOutcome, JobSighting } from "../domain/job.ts";
import { sampleRunner } from "../domain/samples.ts";
import type { Runner } from "../domain/runner.ts";
import type { TrustClass } from "../domain/trust.ts";
import type { Forge, ForgeEvents, ForgeRequest, HandOverContext, RunnerOrders } from "./forge.ts";

/** A job at the world's server, by whatever that calls it. */
export interface WorldJob {
  readonly id: string;
}

/** How the server fails: nobody there, nobody answers, an answer that means nothing, an error. */
export type Outage = "refused" | "silent" | "garbage" | "error";

/** A server of the forge's kind, real or not, and a forge of ours that is opened on it. */
export interface ForgeWorld {
  readonly forge: Forge;
  /** What the names of our runners begin with, before a dash. */
  readonly installation: string;
  /** Queues a job of one repository. `trust`: from somebody with write access, or from a fork. */
  queue(job: { readonly labels: readonly string[]; readonly trust: TrustClass }): Promise<WorldJob>;
  /** The event that tells how the job stands now, signed as the server signs. */
  event(job: WorldJob): Promise<ForgeRequest>;
  /** Another event of the server's, signed, that has nothing to do with jobs. */
  otherEvent(): Promise<ForgeRequest>;
  /** The runner named takes the job and works on it; its registration is busy from then on. */
  start(job: WorldJob, runner: string): Promise<void>;
  end(job: WorldJob, outcome: JobOutcome): Promise<void>;
  /** Takes the job from the server, so that it knows none such any more. */
  forget(job: WorldJob): Promise<void>;
  /** The names of all runners registered at the server now: one twice when it is there twice. */
  registered(): Promise<readonly string[]>;
  /** Registers somebody else's runner. */
  registerOther(name: string): Promise<void>;
  outage(kind: Outage | null): Promise<void>;
  /** All that must stay secret: what the forge was given, and what the server gave out since. */
  secrets(): readonly string[];
  close(): Promise<void>;
}

/** What not every forge has; `lacks` says why, and the tests that need it skip with that. */
export type ForgeFeature = "events" | "fork" | "handOver" | "find" | "busy";

export interface ForgeSubject {
  readonly name: string;
  open(): Promise<ForgeWorld>;
  /** Labels that a runner can be registered with, the first of which jobs ask for. */
  readonly labels: readonly [string, ...string[]];
  /** What its `match` must say: asked for, offered, and whether that fits. */
  readonly matches: readonly (readonly [readonly string[], readonly string[], boolean])[];
  /** Where an event bears its signature: a header's name, in lower case. */
  readonly signatureHeader: string;
  readonly lacks?: Partial<Record<ForgeFeature, string>>;
  readonly skip?: string | false;
}

const timeout = 300_000;
/** Within which a call that is given up after a second has to be over: for a loaded host. */
const giveUpMs = 1_000;
const never = new AbortController().signal;
const handOver: HandOverContext = { accept: ["trusted"], jobDeadlineSeconds: 3600 };

type Case = (world: ForgeWorld) => Promise<void>;
type Register = (title: string, needs: readonly ForgeFeature[], run: Case) => void;

/** Registers the tests that every forge has to pass. */
export function forgeConformance(subject: ForgeSubject): void {
  const test: Register = (title, needs, run) => {
    const missing = needs.map((need) => subject.lacks?.[need]).find((why) => why !== undefined);
    it(title, { timeout, skip: subject.skip || missing || false }, async () => {
      const world = await subject.open();
      try {
        await run(world);
      } finally {
        await world.close();
      }
    });
  };
  describe(`${subject.name} as a forge`, { concurrency: 1 }, () => {
    rules(subject, test);
    events(subject, test);
    polls(subject, test);
    registrations(subject, test);
    outages(subject, test);
  });
}

function rules({ matches }: ForgeSubject, test: Register): void {
  test("matches labels by its own rule", [], async ({ forge }) => {
    for (const [asked, offered, fits] of matches) {
      const told = `${JSON.stringify(asked)} on ${JSON.stringify(offered)}`;
      assert.equal(forge.match(asked, offered), fits, told);
    }
  });

  test("mints the same program for the same runner", [], async ({ forge, installation }) => {
    const context = {
      managerUrl: "unix:{guest}",
      claimToken: "a-claim",
      jobDeadlineSeconds: 3600,
      idleSeconds: 60,
    };
    const runner = sampleRunner({ name: `${installation}-p-1`, forge: forge.name });
    const program = await forge.mint(runner, context);
    assert.deepEqual(await forge.mint(runner, context), program);
    assert.ok(program.deadlineSeconds > 3600, "it outlives the longest job");
  });
}

function events({ labels, signatureHeader }: ForgeSubject, test: Register): void {
  test(
    "reads a job's life from its events, each as often as it comes",
    ["events"],
    async (world) => {
      const { forge, installation } = world;
      const job = await world.queue({ labels: [labels[0]], trust: "trusted" });
      const queued = await told(forge, await world.event(job));
      assert.equal(queued.state, "waiting");
      assert.equal(queued.trust, "trusted");
      assert.deepEqual(queued.labels, [labels[0]]);
      assert.equal(queued.forge, forge.name);
      assert.equal(queued.work, null);
      assert.ok(queued.queuedAt > 1_000_000_000_000, "milliseconds");
      const again = await world.event(job);
      assert.deepEqual(await told(forge, again), await told(forge, again));

      const runner = `${installation}-p-1`;
      await registered(world, runner, labels);
      await world.start(job, runner);
      const started = await told(forge, await world.event(job));
      assert.deepEqual([started.state, started.runner], ["started", runner]);
      await world.end(job, "failure");
      const ended = await told(forge, await world.event(job));
      assert.deepEqual([ended.state, ended.outcome, ended.runner], ["ended", "failure", runner]);
      for (const { externalId, attempt } of [started, ended]) {
        assert.deepEqual([externalId, attempt], [queued.externalId, queued.attempt]);
      }
    },
  );

  test("tells a fork's jobs from others", ["events", "fork"], async (world) => {
    const job = await world.queue({ labels: [labels[0]], trust: "fork" });
    assert.equal((await told(world.forge, await world.event(job))).trust, "fork");
    const [polled] = await world.forge.poll(never);
    assert.equal(polled?.trust, "fork");
  });

  test("takes other events without a job, and says why", ["events"], async (world) => {
    const { sightings, note } = await world.forge.verify(await world.otherEvent());
    assert.deepEqual(sightings, []);
    assert.notEqual(note, "");
  });

  test("refuses what is not signed, or not by its secret", ["events"], async (world) => {
    const job = await world.queue({ labels: [labels[0]], trust: "trusted" });
    const good = await world.event(job);
    const signature = good.headers[signatureHeader] ?? "";
    assert.notEqual(signature, "", "the world signs");
    const flipped = signature.replace(/[0-9a-f](?=[^0-9a-f]*$)/i, (c) => (c === "0" ? "1" : "0"));
    const forged = [undefined, "", "sha256=", signature.slice(0, -2), flipped, "x".repeat(100_000)];
    for (const value of forged) {
      const headers = { ...good.headers, [signatureHeader]: value };
      await refused(world, { ...good, headers }, "unauthenticated");
    }
    const body = Buffer.from(good.body);
    body[body.length - 2] = 0x20;
    await refused(world, { ...good, body }, "unauthenticated");
    await refused(world, { ...good, body: new Uint8Array() }, "unauthenticated");
    // Byte for byte: the same document in another spelling was not signed.
    const spelt = Buffer.concat([Buffer.from(good.body), Buffer.from("\n")]);
    await refused(world, { ...good, body: spelt }, "unauthenticated");
    assert.equal((await told(world.forge, good)).state, "waiting");
  });
}

function polls({ labels }: ForgeSubject, test: Register): void {
  test("shows by a poll what waits and runs, as its events name it", [], async (world) => {
    const { forge, installation } = world;
    assert.deepEqual(await forge.poll(never), []);
    const [first, second] = [
      await world.queue({ labels: [labels[0]], trust: "trusted" }),
      await world.queue({ labels: [labels[0]], trust: "trusted" }),
    ];
    const waiting = await forge.poll(never);
    assert.deepEqual(
      waiting.map(({ state }) => state),
      ["waiting", "waiting"],
    );
    const runner = `${installation}-p-1`;
    await registered(world, runner, labels);
    await world.start(first, runner);
    const seen = await forge.poll(never);
    assert.deepEqual(
      seen.filter(({ state }) => state === "started").map((job) => job.runner),
      [runner],
    );
    await world.end(first, "success");
    const left = (await forge.poll(never)).filter(({ state }) => state !== "ended");
    assert.equal(left.length, 1);
    const byEvent = await eventOf(world, second);
    if (byEvent !== null) assert.deepEqual(left[0], byEvent);
  });

  test("finds how one job stands, and none that it does not know", ["find"], async (world) => {
    const { forge, installation } = world;
    const job = await world.queue({ labels: [labels[0]], trust: "trusted" });
    const [known] = await forge.poll(never);
    assert.ok(known !== undefined && forge.find !== undefined);
    assert.equal((await forge.find(known, never))?.state, "waiting");
    await registered(world, `${installation}-p-1`, labels);
    await world.start(job, `${installation}-p-1`);
    await world.end(job, "cancelled");
    const ended = await forge.find(known, never);
    assert.deepEqual([ended?.state, ended?.outcome], ["ended", "cancelled"]);
    assert.equal(ended?.externalId, known.externalId);
    await world.forget(job);
    assert.equal(await forge.find(known, never), null);
  });
}

function registrations({ labels }: ForgeSubject, test: Register): void {
  test(
    "registers one runner for one job, and again under its name",
    ["handOver"],
    async (world) => {
      const name = `${world.installation}-p-1`;
      for (const _ of [1, 2, 3]) {
        const orders = await registered(world, name, labels);
        assert.deepEqual(await world.registered(), [name], "neither more nor less than one");
        assert.ok(orders.command.length > 0);
        assert.notEqual(orders.startedText, "");
        for (const file of orders.files) assert.match(file.path, /^(?!\/)(?!.*\.\.)[\w./-]+$/);
        const open = JSON.stringify([orders.command, orders.environment, orders.startedText]);
        const readable = orders.files.filter(({ mode }) => (mode & 0o077) !== 0);
        for (const secret of world.secrets()) {
          assert.ok(!open.includes(secret), "a secret is in no argument and no variable");
          assert.ok(!JSON.stringify(readable).includes(secret), "nor in a file that others read");
        }
      }
    },
  );

  test("lists its own runners only", ["handOver"], async (world) => {
    const { forge, installation } = world;
    await world.registerOther("somebody-elses");
    const names = Array.from({ length: 3 }, (_, n) => `${installation}-p-${n}`);
    for (const name of names) await registered(world, name, labels);
    const listed = await forge.registrations(never);
    assert.deepEqual(listed.map((runner) => runner.name).sort(), names);
    assert.equal(new Set(listed.map(({ id }) => id)).size, names.length);
  });

  test("removes a runner, and what is not there, until gone", ["handOver"], async (world) => {
    const { forge, installation } = world;
    const name = `${installation}-p-1`;
    assert.equal(await forge.remove(name, never), "gone");
    await registered(world, name, labels);
    await registered(world, `${name}1`, labels);
    assert.equal(await forge.remove(name, never), "gone");
    assert.deepEqual(await world.registered(), [`${name}1`]);
    assert.equal(await forge.remove(name, never), "gone");
  });

  test("leaves a runner that has a job", ["handOver", "busy"], async (world) => {
    const { forge, installation } = world;
    const name = `${installation}-p-1`;
    const job = await world.queue({ labels: [labels[0]], trust: "trusted" });
    await registered(world, name, labels);
    await world.start(job, name);
    assert.equal(await forge.remove(name, never), "busy");
    assert.deepEqual(await world.registered(), [name]);
    await world.end(job, "success");
    assert.equal(await forge.remove(name, never), "gone");
    assert.deepEqual(await world.registered(), []);
  });
}

function outages({ labels }: ForgeSubject, test: Register): void {
  for (const kind of ["refused", "silent", "garbage", "error"] as const) {
    test(`says what is wrong, in time, when the server is ${kind}`, [], async (world) => {
      const { forge, installation } = world;
      const runner = runnerOf(world, `${installation}-p-1`, labels);
      await world.queue({ labels: [labels[0]], trust: "trusted" });
      const known = (await forge.poll(never))[0];
      assert.ok(known !== undefined);
      await world.outage(kind);
      const calls: Record<string, (signal: AbortSignal) => Promise<unknown> | undefined> = {
        poll: (signal) => forge.poll(signal),
        find: (signal) => forge.find?.(known, signal),
        handOver: (signal) => forge.handOver?.(runner, handOver, signal),
        registrations: (signal) => forge.registrations(signal),
        remove: (signal) => forge.remove(runner.name, signal),
      };
      for (const [what, call] of Object.entries(calls)) {
        const answer = call(AbortSignal.timeout(giveUpMs));
        if (answer === undefined) continue;
        await assert.rejects(answer, (error) => speaksPlainly(error, world), what);
      }
      await world.outage(null);
      assert.equal((await forge.poll(never)).length, 1, "and goes on when it is back");
    });
  }
}

/** A `MayflyError` that says something, and no secret in anything that a log would show of it. */
function speaksPlainly(error: unknown, world: ForgeWorld): boolean {
  assert.ok(error instanceof MayflyError, `a MayflyError, not ${String(error)}`);
  assert.ok(error.message.length > 5);
  const shown = `${String(error)} ${error.hint ?? ""} ${error.where ?? ""} ${JSON.stringify(error)}`;
  const deep = `${shown} ${error.stack ?? ""} ${String(error.cause)}`;
  for (const secret of world.secrets()) assert.ok(!deep.includes(secret), "a secret is in it");
  return true;
}

async function refused(
  world: ForgeWorld,
  request: ForgeRequest,
  code: MayflyError["code"],
): Promise<void> {
  const verify = async (): Promise<ForgeEvents> => world.forge.verify(request);
  await assert.rejects(verify(), (error) => {
    assert.equal((error as MayflyError).code, code);
    return speaksPlainly(error, world);
  });
}

/** The one job that an event tells of. */
async function told(forge: Forge, request: ForgeRequest): Promise<JobSighting> {
  const { sightings } = await forge.verify(request);
  assert.equal(sightings.length, 1);
  return sightings[0] as JobSighting;
}

/** Null where the forge's events cannot be had. */
async function eventOf(world: ForgeWorld, job: WorldJob): Promise<JobSighting | null> {
  const { sightings } = await world.forge.verify(await world.event(job));
  return sightings[0] ?? null;
}

async function registered(
  world: ForgeWorld,
  name: string,
  labels: readonly string[],
): Promise<RunnerOrders> {
  const orders = await world.forge.handOver?.(runnerOf(world, name, labels), handOver, never);
  assert.ok(orders, "it hands over");
  return orders;
}

function runnerOf({ forge }: ForgeWorld, name: string, labels: readonly string[]): Runner {
  return sampleRunner({ name, forge: forge.name, labels });
}
