import assert from "node:assert/strict";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../test/guests.ts";
import { imageForTests, processesOf } from "../providers/qemu/testing.ts";

/*
 * `mayfly run` with machines of QEMU: what a person does with containers does the same here. An
 * emulated machine on a busy host takes its time, so these have a long patience of their own.
 */

const image = await imageForTests();
const skip = typeof image === "string" ? image : false;
const patienceMs = 250_000;
const timeout = 2 * patienceMs;
const main = join(import.meta.dirname, "main.ts");

let scratch = "";
let state = "";
let repository = "";
before(() => {
  if (typeof image === "string") return;
  scratch = mkdtempSync(join(tmpdir(), "mayfly-run-"));
  state = join(scratch, "state");
  repository = join(scratch, "repository");
  mkdirSync(state);
  symlinkSync(dirname(image.folder), join(state, "images"));
  mkdirSync(repository);
  const identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
  const git = (...words: string[]) =>
    execFileSync("git", ["-C", repository, ...identity, ...words]);
  git("init", "-q");
  git("commit", "-q", "--allow-empty", "-m", "first");
});
after(() => rmSync(scratch, { recursive: true, force: true }));

class Run {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  readonly over: Promise<number | null>;

  constructor(...words: readonly string[]) {
    const { PATH, HOME } = process.env;
    this.child = spawn(process.execPath, [main, "run", ...words], {
      cwd: repository,
      env: { PATH, HOME, MAYFLY_STATE: state },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.on("data", (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.child.stderr?.on("data", (chunk: Buffer) => (this.stderr += chunk.toString()));
    const timer = setTimeout(() => this.child.kill("SIGKILL"), patienceMs);
    this.over = new Promise((resolve) => {
      this.child.once("close", (code) => {
        clearTimeout(timer);
        resolve(code);
      });
    });
  }
}

const inQemu = ["--provider", "qemu", "--memory", "512mb", "--cpu", "1"] as const;

describe("a machine of QEMU for a run", { skip }, () => {
  test(
    "both streams, the status and the files come out, and nothing is left",
    { timeout },
    async () => {
      const script = "echo out; echo err >&2; uname -n; seq 100000 >big; exit 7";
      const files = ["--artifact", "big", "--artifacts", join(scratch, "out")];
      const run = new Run(...inQemu, ...files, "--", "sh", "-c", script);
      assert.equal(await run.over, 7, run.stderr);
      const [first, machine = ""] = run.stdout.split("\n");
      assert.equal(first, "out");
      assert.match(run.stderr, /^err$/m);
      const lines = readFileSync(join(scratch, "out", "big"), "utf8")
        .trimEnd()
        .split("\n");
      assert.deepEqual([lines.length, lines.at(-1)], [100_000, "100000"]);
      assert.match(run.stderr, new RegExp(`${machine} is up after`));
      assert.deepEqual(readdirSync(join(state, "runs")), []);
      assert.deepEqual(await processesOf(machine), []);
    },
  );

  test(
    "what a killed run left goes with the next, whatever that makes its machine by",
    { timeout },
    async () => {
      const killed = new Run(...inQemu, "--", "sh", "-c", "uname -n; sleep 600");
      const machine = await eventually(
        () => /^(\S+)\n/.exec(killed.stdout)?.[1] ?? null,
        patienceMs,
      );
      killed.child.kill("SIGKILL");
      await killed.over;
      assert.equal((await processesOf(machine)).length, 1);
      const next = new Run("--provider", "host", "--", "true");
      assert.equal(await next.over, 0, next.stderr);
      assert.match(next.stderr, new RegExp(`removed ${machine}`));
      assert.deepEqual(await processesOf(machine), []);
      assert.deepEqual(readdirSync(join(state, "runs")), []);
      assert.deepEqual(readdirSync(join(state, "providers", "qemu", "machines")), []);
    },
  );
});
