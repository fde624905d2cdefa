import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import type { RequestListener } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { create } from "tar";
import type { Question } from "../../test/guest-manager.ts";
import {
  eventually,
  Manager,
  scratchFolder,
  scriptJob,
  startGuest,
  textOf,
} from "../../test/guests.ts";
import type { Program } from "../domain/program.ts";
import type { LogFrame } from "../store/logs.ts";
import { listArtifacts } from "../store/logs.ts";
import type { StoredJob } from "../store/questions.ts";

let folder = "";

before(() => {
  folder = scratchFolder();
});

after(() => rmSync(folder, { recursive: true, force: true }));

/** Cuts the connection of the first answers to each path just when they were to be sent. */
class Scissors {
  readonly cut: string[] = [];
  readonly #times: number;

  constructor(times: number) {
    this.#times = times;
  }

  around = (inner: RequestListener): RequestListener => {
    return (request, response) => {
      const path = new URL(request.url ?? "", "http://x").pathname;
      const before = this.cut.filter((one) => one === path).length;
      if (before < this.#times && path !== "/v1/guest/orders") {
        this.cut.push(path);
        const drop = (): typeof response => {
          request.socket.destroy();
          return response;
        };
        if (path === "/v1/guest/source") {
          // Half of it arrives.
          const write = response.write.bind(response) as (chunk: Buffer) => boolean;
          response.write = ((chunk: Buffer) => {
            write(Buffer.from(chunk).subarray(0, 700));
            setImmediate(drop);
            return true;
          }) as typeof response.write;
        } else {
          response.writeHead = drop;
          response.write = () => !drop().destroyed;
        }
        response.end = drop as typeof response.end;
      }
      inner(request, response);
    };
  };
}

test("an answer that is lost is asked for again, and nothing happens twice", async (t) => {
  const scissors = new Scissors(2);
  const state = join(folder, "lost");
  mkdirSync(state);
  const manager = await Manager.open(state, { around: scissors.around });
  t.after(() => manager.close());
  const tree = join(state, "tree");
  mkdirSync(tree);
  writeFileSync(join(tree, "data"), "0123456789\n".repeat(1000));
  const archive = Readable.from(create({ cwd: tree }, ["data"]));
  const { sha256 } = await manager.native.keepTree(archive);
  const job = await manager.native.submit(
    scriptJob("for i in $(seq 30); do echo $i; sleep 0.03; done; wc -l <data; cp data copy", {
      source: { kind: "tree", sha256, commit: null },
      artifacts: ["copy"],
    }),
  );
  const [, program] = await manager.claimRunner();
  const guest = startGuest(program, state);
  t.after(() => guest.child.kill("SIGKILL"));
  assert.equal((await manager.ended(job.id)).outcome, "success");
  assert.equal(await guest.over, 0, guest.console());
  const frames = await manager.log(job.id);
  const counted = Array.from({ length: 30 }, (_, index) => `${index + 1}\n`).join("");
  assert.equal(textOf(frames, "stdout"), `${counted}1000\n`);
  assert.deepEqual(
    (await listArtifacts(manager.store.db, job.id)).map(({ path, size }) => [path, size]),
    [["copy", 11_000]],
  );
  for (const path of ["redeem", "work", "source", "append", "artifact", "finish"]) {
    assert.equal(scissors.cut.filter((one) => one === `/v1/guest/${path}`).length, 2, path);
  }
});

describe("a manager that is killed", () => {
  test("while the job runs finds it again, and all it said", async (t) => {
    const state = join(folder, "killed");
    mkdirSync(state);
    let manager = await startManager(state);
    t.after(() => killed(manager.child));
    const job = await manager.ask<StoredJob>({
      submit: scriptJob("for i in $(seq 200); do echo $i; sleep 0.02; done; exit 5"),
    });
    const [, program] = await manager.ask<[string, Program]>({ claim: true });
    const guest = startGuest(program, state);
    t.after(() => guest.child.kill("SIGKILL"));
    for (const seen of ["20\n", "70\n"]) {
      await eventually(async () => ((await textAt(manager, job.id)).includes(seen) ? true : null));
      await killed(manager.child);
      manager = await startManager(state);
    }
    const ended = await eventually(async () => {
      const now = await manager.ask<StoredJob>({ job: job.id });
      return now.state === "ended" ? now : null;
    });
    assert.equal(ended.exitCode, 5);
    const all = Array.from({ length: 200 }, (_, index) => `${index + 1}\n`).join("");
    assert.equal(await textAt(manager, job.id), all);
    assert.equal(await guest.over, 0, guest.console());
  });

  test("and stays away makes a chatty job wait instead of filling the machine", async (t) => {
    const state = join(folder, "away");
    mkdirSync(state);
    let manager = await startManager(state);
    t.after(() => killed(manager.child));
    const job = await manager.ask<StoredJob>({
      submit: scriptJob(
        `echo begun; while [ ! -e ${state}/go ]; do sleep 0.02; done
         i=0; while [ $i -lt 320 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i >${state}/count; done`,
      ),
    });
    const [, program] = await manager.ask<[string, Program]>({ claim: true });
    const guest = startGuest(program, state);
    t.after(() => guest.child.kill("SIGKILL"));
    await eventually(async () => ((await textAt(manager, job.id)).includes("begun") ? true : null));
    await killed(manager.child);
    writeFileSync(join(state, "go"), "");
    // It writes until the guest's 8 MiB are full, and then stands still.
    const { readFileSync } = await import("node:fs");
    const written = (): number => Number(readFileSync(join(state, "count"), "utf8").trim() || 0);
    await eventually(() => {
      try {
        return written() >= 100 ? true : null;
      } catch {
        return null;
      }
    });
    const memory = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${guest.child.pid}/status`, "utf8"));
    assert.ok(Number(memory?.[1]) < 80_000, `${memory?.[1]} kB of memory`);
    assert.ok(written() < 320);
    manager = await startManager(state);
    const ended = await eventually(async () => {
      const now = await manager.ask<StoredJob>({ job: job.id });
      return now.state === "ended" ? now : null;
    });
    assert.equal(ended.outcome, "success");
    assert.equal((await textAt(manager, job.id)).length, 6 + 320 * 65_536);
    assert.equal(await guest.over, 0);
  });
});

interface KillableManager {
  readonly child: ChildProcess;
  ask<T>(question: Question): Promise<T>;
}

async function startManager(state: string): Promise<KillableManager> {
  const child = fork(join(import.meta.dirname, "../../test/guest-manager.ts"), [state], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    execArgv: [],
  });
  await once(child, "message");
  return {
    child,
    ask: async <T>(question: Question) => {
      const answer = once(child, "message") as Promise<[T]>;
      child.send(question);
      return (await answer)[0];
    },
  };
}

/** Once it is gone it holds nothing any more, and writes nothing into its folder. */
async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

async function textAt(manager: KillableManager, job: string): Promise<string> {
  const frames = await manager.ask<(Omit<LogFrame, "bytes"> & { bytes: string })[]>({ log: job });
  return textOf(
    frames.map((frame) => ({ ...frame, bytes: Buffer.from(frame.bytes, "base64") })),
    "stdout",
  );
}
