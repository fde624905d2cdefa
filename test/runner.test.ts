import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { judge } from "../scripts/runner/file.ts";

const runner = join(import.meta.dirname, "../scripts/test.ts");
const imports = `import { after, before, describe, test } from "node:test";\n`;

describe("the test runner", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "mayfly-runner-"));
    mkdirSync(join(folder, "src/domain"), { recursive: true });
    mkdirSync(join(folder, "src/web"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function write(name: string, text: string): void {
    writeFileSync(join(folder, "src", `${name}.test.ts`), `${imports}${text}\n`);
  }

  function run(...args: string[]): { status: number | null; stdout: string; counts: string } {
    const { status, stdout } = spawnSync(process.execPath, [runner, ...args], {
      cwd: folder,
      encoding: "utf8",
    });
    return { status, stdout, counts: stdout.trimEnd().split("\n").at(-1) ?? "" };
  }

  test("passes what passes, and shows why something was skipped", () => {
    write("a", `test("one", () => {}); test("two", { skip: "no podman" }, () => {});`);
    write("b", `describe("suite", () => { test("one", () => {}); test("two", () => {}); });`);
    const { status, stdout, counts } = run();
    assert.deepEqual([status, counts], [0, "3 passed, 0 failed, 1 skipped"]);
    assert.match(stdout, /src\/a\.test\.ts: 1, no podman/);
  });

  test("fails with the whole reason and what the file printed", () => {
    write("a", `test("one", () => { console.log("printed"); throw new Error("broken so"); });`);
    write("b", `test("two", () => { console.log("silent"); });`);
    const { status, stdout, counts } = run();
    assert.deepEqual([status, counts], [1, "1 passed, 1 failed, 0 skipped"]);
    assert.match(stdout, /✖ one\n\s+Error: broken so/);
    assert.match(stdout, /\| printed/);
    assert.doesNotMatch(stdout, /silent/);
  });

  const broken: Readonly<Record<string, readonly [text: string, counts: string, says: RegExp]>> = {
    "breaks at its import": ["throw new Error('early');", "0 passed, 1 failed", /Error: early/],
    "is no TypeScript": ["this is not", "0 passed, 1 failed", /SyntaxError/],
    "has no test": ["", "0 passed, 1 failed", /has no test/],
    "has an empty suite": ["describe('a', () => {});", "0 passed, 1 failed", /has no test/],
    "exits early with a good status": [
      "test('a', () => process.exit(0));",
      "0 passed, 1 failed",
      /exited before/,
    ],
    "throws after its tests": [
      "test('a', () => { setTimeout(() => { throw new Error('late'); }, 20); });",
      "1 passed, 1 failed",
      /late/,
    ],
    "kills itself": [
      "test('a', () => { process.kill(process.pid, 'SIGKILL'); });",
      "0 passed, 1 failed",
      /SIGKILL/,
    ],
    "fails in a hook after its tests": [
      "describe('a', () => { after(() => { throw new Error('hook'); }); test('b', () => {}); });",
      "1 passed, 1 failed",
      /Error: hook/,
    ],
    "fails in a suite's own code": [
      "describe('a', () => { throw new Error('suite'); });",
      "0 passed, 1 failed",
      /Error: suite/,
    ],
  };
  for (const [name, [text, counts, says]] of Object.entries(broken)) {
    test(`a file that ${name} has failed`, () => {
      write("broken", text);
      const result = run();
      assert.equal(result.status, 1);
      assert.equal(result.counts, `${counts}, 0 skipped`);
      assert.match(result.stdout, says);
    });
  }

  test("runs a file once more alone that failed among all, and tells of it", () => {
    const once = `import { existsSync, writeFileSync } from "node:fs";
       test("one", () => {
         if (existsSync("ran")) return;
         writeFileSync("ran", "");
         throw new Error("the first time");
       });`;
    write("a", once);
    assert.equal(run("src/a").status, 1, "one that was asked for is not");
    rmSync(join(folder, "ran"));
    const { status, stdout, counts } = run();
    assert.deepEqual([status, counts], [0, "1 passed, 0 failed, 0 skipped"]);
    assert.match(stdout, /Error: the first time/);
    assert.match(stdout, /Unsteady[^\n]*\n\s+src\/a\.test\.ts: one\n/);
    for (const name of ["b", "c", "d", "e"])
      write(name, once.replaceAll(/\bran\b/g, `ran-${name}`));
    assert.equal(run().counts, "1 passed, 4 failed, 0 skipped", "too many for it to be chance");
  });

  test("leaves no process behind", () => {
    write(
      "a",
      `import { spawn } from "node:child_process"; import { writeFileSync } from "node:fs";
       test("a", () => {
         const child = spawn("sleep", ["600"], { stdio: "inherit" });
         child.unref();
         writeFileSync("pid", String(child.pid));
       });`,
    );
    assert.equal(run().status, 0);
    const pid = Number(String(spawnSync("cat", [join(folder, "pid")]).stdout));
    assert.ok(pid > 0);
    const until = Date.now() + 60_000;
    for (;;) {
      const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
      // Gone, or dead and not yet reaped; what was killed may take a moment to be so.
      if (/^(?:Z|$)/.test(stdout)) break;
      assert.ok(Date.now() < until, `${pid} is left: ${stdout}`);
    }
  });

  test("runs files by any part of their path, or the fast ones alone", () => {
    write(
      "domain/a",
      `test("a", () => {}); describe("on PostgreSQL", () => { test("b", () => {}); });`,
    );
    write("web/b", `test("b", () => { throw new Error("b"); });`);
    assert.equal(run("domain").counts, "2 passed, 0 failed, 0 skipped");
    assert.equal(run("--unit").counts, "1 passed, 0 failed, 0 skipped");
    assert.equal(run().counts, "2 passed, 1 failed, 0 skipped");
  });

  test("fails when no test ran", () => {
    assert.equal(run().status, 1);
    write("a", `test("a", { skip: "no reason to" }, () => {});`);
    const { status, counts } = run();
    assert.deepEqual([status, counts], [1, "0 passed, 0 failed, 1 skipped"]);
  });
});

test("a file that did not end in time has failed, whatever passed in it", () => {
  const passed = {
    path: ["a"],
    suite: false,
    durationMs: 1,
    skipped: null,
    todo: null,
    failure: null,
  };
  const ending = { code: null, signal: "SIGKILL", timedOut: true } as const;
  const judged = judge([{ kind: "result", result: passed }], ending);
  assert.deepEqual([judged.passed, judged.failed], [1, 1]);
  assert.equal(judged.failures[0]?.text, "did not end in time");
});
