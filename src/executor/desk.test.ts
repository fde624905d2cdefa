import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { create } from "tar";
import { eventually, scratchFolder, startGuest, type GuestProcess } from "../../test/guests.ts";
import { serveDesk, type Served } from "../cli/run-desk.ts";
import { guestProgram } from "../guest/program.ts";
import type { Frame } from "../guest/wire.ts";
import { Door } from "./door.ts";
import { RunDesk } from "./desk.ts";
import type { Step, StepResult } from "./steps.ts";

let folder = "";
before(() => (folder = scratchFolder()));
after(async () => {
  // What a test that failed left behind.
  for (const { guest, server } of opened) {
    guest.child.kill("SIGKILL");
    await guest.over;
    await server.close();
  }
  rmSync(folder, { recursive: true, force: true });
});

interface World {
  readonly desk: RunDesk;
  readonly guest: GuestProcess;
  readonly shown: Frame[];
  readonly kept: Map<string, string>;
  run(step: Partial<Step> & Pick<Step, "command">): Promise<StepResult>;
  end(): Promise<number | string>;
}

let count = 0;
const opened = new Set<{ readonly guest: GuestProcess; readonly server: Served }>();

/** A desk on a socket of its own, and a real guest that asks it. */
async function world(source: (() => Promise<Readable>) | null = null): Promise<World> {
  const place = join(folder, String((count += 1)));
  mkdirSync(place);
  const shown: Frame[] = [];
  const kept = new Map<string, string>();
  const desk = new RunDesk({
    claim: "the-claim",
    session: "the-session",
    machine: "m-1",
    now: Date.now,
    source,
    environment: { SHARED: "yes" },
    show: async (_, frame) => void shown.push(frame),
    keep: async (path, body) => {
      const chunks = (await body.toArray()) as Buffer[];
      kept.set(path, Buffer.concat(chunks).toString());
      return { sha256: "0".repeat(64), size: 0 };
    },
  });
  const socket = join(place, "guest", "guest.sock");
  const server = await serveDesk(desk, new Door("door word"), socket);
  const birth = {
    managerUrl: `unix:${socket}`,
    claim: "the-claim",
    // For a whole test, on however slow a machine.
    jobSeconds: 600,
    lifeSeconds: 1200,
  };
  const guest = startGuest(guestProgram(birth), place);
  const both = { guest, server };
  opened.add(both);
  // A test must not wait for a guest that is gone.
  void guest.over.then(() => desk.giveUp("lost", guest.console()));
  return {
    desk,
    guest,
    shown,
    kept,
    run: (step) => desk.run({ title: null, ...step }, { hasMore: true, timeoutSeconds: 100 }),
    end: async () => {
      desk.end();
      const status = await guest.over;
      await server.close();
      opened.delete(both);
      return status;
    },
  };
}

const sh = (script: string): readonly string[] => ["sh", "-c", script];

describe("several steps in one machine", () => {
  test("share the folder, and each has its own output and status", async () => {
    const tree = join(folder, "tree");
    mkdirSync(tree);
    writeFileSync(join(tree, "file"), "content\n");
    const { run, end } = await world(async () => Readable.from(create({ cwd: tree }, ["file"])));
    const first = await run({ command: sh("cat file; echo made >made; echo e >&2; exit 3") });
    assert.deepEqual([first.how, first.exitCode], ["exited", 3]);
    assert.deepEqual([first.stdout, first.stderr], ["content\n", "e\n"]);
    const environment = { OWN: "mine" };
    const second = await run({ command: sh("cat made; echo $SHARED $OWN"), environment });
    assert.equal(second.stdout, "made\nyes mine\n");
    assert.equal(await end(), 0);
  });

  test("bring out files from anywhere, and none that a link leads to", async () => {
    const { run, end, kept, guest } = await world();
    const other = join(folder, "other");
    mkdirSync(join(other, "in"), { recursive: true });
    writeFileSync(join(other, "in", "a"), "A");
    writeFileSync(join(folder, "secret"), "S");
    const artifacts = { root: other, patterns: ["**"], to: "folder" } as const;
    await run({ command: sh(`ln -s ../secret ${other}/link`), artifacts });
    assert.deepEqual([...kept], [["in/a", "A"]]);
    const path = join(other, "in", "a").slice(1);
    const wanted = { root: "/", patterns: [path], to: "memory" } as const;
    const { files } = await run({ command: ["true"], artifacts: wanted });
    assert.equal(files.get(path)?.toString(), "A");
    assert.equal(await end(), 0, guest.console());
  });

  test("what one leaves running is there for the next", async (t) => {
    const { run, end, guest } = await world();
    const tick = join(guest.work, "tick");
    const loop = "(while :; do date >tick; sleep 0.05; done) >/dev/null 2>&1 &";
    const { stdout: pid } = await run({ command: sh(`${loop} echo $!`) });
    // What plays the machine here is a process among others, and takes nothing with it.
    t.after(() => process.kill(Number(pid), "SIGKILL"));
    await eventually(() => (existsSync(tick) ? true : null));
    const { stdout } = await run({
      command: sh("rm tick; until [ -s tick ]; do sleep 0.05; done; echo alive"),
    });
    assert.equal(stdout, "alive\n");
    assert.equal(await end(), 0);
  });

  test("one that is cancelled does not cancel the next", async () => {
    const { run, end, desk, shown } = await world();
    const running = run({ command: sh("trap 'echo bye; exit 1' TERM; echo up; sleep 200 & wait") });
    await eventually(() => (shown.some(({ stream }) => stream === "stdout") ? true : null));
    desk.cancel("enough");
    const { how, stdout } = await running;
    assert.deepEqual([how, stdout], ["cancelled", "up\nbye\n"]);
    const next = await run({ command: sh("sleep 0.3; echo fine") });
    assert.deepEqual([next.how, next.stdout], ["exited", "fine\n"]);
    assert.equal(await end(), 0);
  });

  test("one that takes too long has timed out, and the next runs", async () => {
    const { end, desk } = await world();
    const slow = { title: null, command: ["sleep", "300"] };
    const { how } = await desk.run(slow, { hasMore: true, timeoutSeconds: 1 });
    assert.equal(how, "timed_out");
    const quick = { title: null, command: ["true"] };
    const next = await desk.run(quick, { hasMore: true, timeoutSeconds: 100 });
    assert.equal(next.exitCode, 0);
    assert.equal(await end(), 0);
  });
});

test("a repeated batch is shown once, a wrong token never", async () => {
  const shown: string[] = [];
  const desk = new RunDesk({
    claim: "c",
    session: "s",
    machine: "m-1",
    now: () => 0,
    source: null,
    environment: {},
    show: async (_, { bytes }) => void shown.push(Buffer.from(bytes).toString()),
    keep: () => Promise.reject(new Error("nothing is kept here")),
  });
  await assert.rejects(desk.redeem("wrong", "0".repeat(32)), { code: "unauthenticated" });
  await desk.redeem("c", "0".repeat(32));
  await desk.redeem("c", "0".repeat(32));
  await assert.rejects(desk.redeem("c", "1".repeat(32)), { code: "conflict" });
  const running = desk.run({ title: "", command: ["x"] }, { hasMore: false, timeoutSeconds: 5 });
  const frames = ["a", "b"].map((text, index): Frame => ({
    seq: index + 1,
    at: 0,
    stream: "stdout",
    bytes: Buffer.from(text),
  }));
  await assert.rejects(desk.append("wrong", frames), { code: "unauthenticated" });
  await Promise.all([desk.append("s", frames), desk.append("s", frames)]);
  assert.deepEqual(shown, ["a", "b"]);
  await desk.finish("s", { how: "exited", exitCode: 0, detail: "" });
  await desk.finish("s", { how: "exited", exitCode: 1, detail: "again" });
  assert.equal((await running).exitCode, 0);
  await assert.rejects(desk.keepArtifact("s", "x", Readable.from([])), { code: "conflict" });
});
