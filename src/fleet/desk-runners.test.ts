import assert from "node:assert/strict";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { eventually, Manager, scratchFolder, startGuest, textOf } from "../../test/guests.ts";
import { MayflyError } from "../domain/errors.ts";
import { nextStep } from "../domain/lifecycle.ts";
import type { Runner } from "../domain/runner.ts";
import type { Forge, RunnerOrders } from "../forges/forge.ts";
import { findBackOff } from "../store/back-offs.ts";
import { history } from "../store/facts.ts";
import { runnerLog } from "../store/logs.ts";
import { findRunner } from "../store/questions.ts";
import { moveRunner } from "../store/runners.ts";

/** A forge whose runner program is a shell script of the test's. */
class ScriptForge implements Partial<Forge> {
  readonly name = "acme";
  script = "exit 0";
  fault: Error | null = null;
  hasJob = true;
  handed: string[] = [];

  match(): boolean {
    return true;
  }

  handOver({ name }: Runner): Promise<RunnerOrders | null> {
    this.handed.push(name);
    if (!this.hasJob) return Promise.resolve(null);
    if (this.fault !== null) return Promise.reject(this.fault);
    return Promise.resolve({
      files: [
        { path: "credential", mode: 0o600, content: `a secret of ${name}\n` },
        { path: "start.sh", mode: 0o700, content: this.script },
      ],
      command: ["sh", "{files}/start.sh", "{work}"],
      environment: { CREDENTIAL: "{files}/credential" },
      startedText: "Running job:",
    });
  }
}

const nonce = "ab".repeat(16);

describe("a forge's runner", () => {
  let root: string;
  let forge: ScriptForge;
  let manager: Manager;

  beforeEach(async () => {
    root = scratchFolder();
    forge = new ScriptForge();
    const pool = { forge: "acme", jobDeadlineSeconds: 100 };
    manager = await Manager.open(root, { pool, forges: [forge as unknown as Forge] });
  });
  afterEach(async () => {
    await manager.close();
    rmSync(root, { recursive: true });
  });

  const runnerOf = async (name: string): Promise<Runner> => {
    const found = await findRunner(manager.store.db, name);
    assert.ok(found);
    return found;
  };
  const session = async (): Promise<[string, string]> => {
    const [name] = await manager.claimRunner();
    const { session } = await manager.guests.redeem(manager.tokens.claim(name), nonce);
    return [session, name];
  };
  const never = new AbortController().signal;

  it("is run in its machine with its credential, and its start and end are told", async () => {
    forge.script = `
      cat "$CREDENTIAL"; stat -c %a "$CREDENTIAL"; rm "$CREDENTIAL"; pwd; echo "$1"; env | grep -c secret
      printf 'Running '; sleep 0.1; echo 'job: build'; until [ -e go ]; do sleep 0.05; done; exit 3`;
    const [name, program] = await manager.claimRunner();
    const work = join(root, "machine");
    mkdirSync(work);
    const guest = startGuest(program, work);
    const started = await eventually(async () => {
      const runner = await runnerOf(name);
      return runner.startedAt === null ? null : runner;
    });
    // Until its forge tells of the job, it stands for one that waits.
    assert.equal(started.state, "up");
    assert.ok(started.handedAt !== null && started.handedAt <= started.startedAt!);
    assert.equal(started.finishedAt, null);
    assert.deepEqual(readdirSync(`${guest.work}.files`), ["start.sh"]);
    writeFileSync(join(guest.work, "go"), "");
    assert.equal(await guest.over, 0, guest.console());
    const over = await runnerOf(name);
    assert.equal(over.state, "ended");
    assert.ok(over.finishedAt !== null);
    assert.match(over.reason, /its runner is over: exit status 3/);
    const said = textOf(await manager.log(runnerLog(name)), "stdout");
    const expected = [
      `a secret of ${name}`,
      "600",
      guest.work,
      guest.work,
      "0",
      "Running job: build",
    ];
    assert.deepEqual(said.trim().split("\n"), expected);
    assert.deepEqual(forge.handed, [name]);
  });

  it("that is ended because its machine is taken back marks that machine", async () => {
    forge.script = "echo Running job: build; sleep 1000";
    const [name, program] = await manager.claimRunner();
    const work = join(root, "machine");
    mkdirSync(work);
    const guest = startGuest(program, work);
    await eventually(async () => ((await runnerOf(name)).startedAt === null ? null : true));
    guest.child.kill("SIGUSR1");
    assert.equal(await guest.over, 0, guest.console());
    const told = (await history(manager.store.db, name)).map(({ reason }) => reason);
    assert.ok(
      told.includes("its provider gave notice that it takes the machine back"),
      told.join(),
    );
    assert.match((await runnerOf(name)).reason, /its runner is over: its machine is taken back/);
    assert.equal(await findBackOff(manager.store.db, "pool/small"), null);
  });

  it("is asked for only when the machine is up, and again when an answer was lost", async () => {
    const [secret, name] = await session();
    assert.deepEqual(forge.handed, []);
    const first = await manager.guests.work(secret, 0, never);
    const again = await manager.guests.work(secret, 0, never);
    assert.deepEqual(forge.handed, [name, name]);
    assert.deepEqual(first, again);
    assert.equal((await runnerOf(name)).state, "up");
  });

  it("is asked for again while its forge has no job to register it for", async () => {
    forge.hasJob = false;
    const [secret, name] = await session();
    assert.equal(await manager.guests.work(secret, 0, never), null);
    assert.equal(await findBackOff(manager.store.db, `pool/${manager.pool.name}`), null);
    forge.hasJob = true;
    assert.equal((await manager.guests.work(secret, 0, never))?.startedText, "Running job:");
    assert.deepEqual(forge.handed, [name, name]);
  });

  it("is not given to a machine that is not wanted any more", async () => {
    const [secret, name] = await session();
    await manager.store.write((tx) => moveRunner(tx, name, "ended", { reason: "a test" }));
    await assert.rejects(manager.guests.work(secret, 0, never), { code: "conflict" });
    assert.deepEqual(forge.handed, []);
  });

  it("is not asked for by every guest of a pool while its forge refuses", async () => {
    forge.fault = new MayflyError("unavailable", "the forge is down");
    const [secret, name] = await session();
    const refused = { code: "unavailable", message: /the forge is down/ };
    await assert.rejects(manager.guests.work(secret, 0, never), refused);
    // Its pool waits for some seconds; here until we are through, however slow the host is.
    const until = Date.now() + 3_600_000;
    await manager.store.db.updateTable("back_offs").set({ until }).execute();
    await assert.rejects(manager.guests.work(secret, 0, never), refused);
    const [other] = await session();
    await assert.rejects(manager.guests.work(other, 0, never), refused);
    assert.deepEqual(forge.handed, [name]);
  });

  it("that its forge will never give ends the machine at once, and says why", async () => {
    forge.fault = new MayflyError("forbidden", "the token lacks a permission");
    const [secret, name] = await session();
    const told = { code: "conflict", message: /acme gave .* no registration: the token lacks/ };
    await assert.rejects(manager.guests.work(secret, 0, never), told);
    const { state, reason } = await runnerOf(name);
    assert.equal(state, "ended");
    assert.match(reason, /the token lacks a permission/);
    const found = await findBackOff(manager.store.db, `pool/${manager.pool.name}`);
    assert.match(found?.reason ?? "", /lacks a permission/);
  });

  it("that ends before any job makes its pool wait", async () => {
    forge.script = "echo no license >&2; exit 1";
    const [name, program] = await manager.claimRunner();
    const guest = startGuest(program, root);
    assert.equal(await guest.over, 0, guest.console());
    assert.match((await runnerOf(name)).reason, /had no job: exit status 1 \(no license\)/);
    const found = await findBackOff(manager.store.db, `pool/${manager.pool.name}`);
    assert.match(found?.reason ?? "", /had no job/);
  });

  it("that got a job as its end was decided keeps its machine until that is over", async () => {
    const [secret, name] = await session();
    await manager.guests.work(secret, 0, never);
    await manager.store.write((tx) => moveRunner(tx, name, "ended", { reason: "not needed" }));
    const ended = await runnerOf(name);
    const soon = ended.endedAt! + 1000;
    assert.equal(nextStep(ended, manager.pool, soon).do, "wait");
    assert.equal(nextStep(ended, manager.pool, ended.endedAt! + 60_000).do, "remove");
    assert.deepEqual(await manager.guests.append(secret, [], true), { cancel: null });
    const busy = await runnerOf(name);
    assert.equal(busy.state, "ended");
    assert.equal(nextStep(busy, manager.pool, busy.endedAt! + 90_000).do, "wait");
    assert.equal(nextStep(busy, manager.pool, busy.endedAt! + 300_000).do, "remove");
    await manager.guests.finish(secret, { how: "exited", exitCode: 0, detail: "" });
    assert.equal(nextStep(await runnerOf(name), manager.pool, soon).do, "remove");
    const facts = await history(manager.store.db, name);
    assert.ok(facts.some(({ reason }) => reason.startsWith("it got a job as its end was decided")));
  });
});
