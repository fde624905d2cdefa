import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, describe, test } from "node:test";

const root = join(import.meta.dirname, "..");

describe("the bundle", () => {
  let folder = "";
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "mayfly-bundle-"));
    const build = join(root, "scripts/build.ts");
    const { status, stderr } = spawnSync(process.execPath, [build, join(folder, "dist")], {
      cwd: root,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    copyFileSync(join(root, "package.json"), join(folder, "package.json"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs it far from our node_modules, so that what is not in it is not found. */
  function mayfly(node: string, ...args: string[]) {
    return spawnSync(node, [join(folder, "dist/mayfly.js"), ...args], {
      cwd: folder,
      encoding: "utf8",
      env: { PATH: process.env["PATH"], HOME: folder },
    });
  }

  test("runs without any package beside it", () => {
    const { status, stdout, stderr } = mayfly(process.execPath, "--help");
    assert.equal(status, 0, stderr);
    assert.match(stdout, /Usage: mayfly/);
  });

  test("loads every command", () => {
    const names = [...mayfly(process.execPath, "--help").stdout.matchAll(/^ {2}(\w+)/gm)];
    assert.ok(names.length > 5, "the help lists the commands");
    for (const [, name] of names) {
      const { status, stderr } = mayfly(process.execPath, name ?? "", "--help");
      assert.equal(status, 0, `${name}: ${stderr}`);
    }
  });

  test("keeps its compiled code in the user's own cache", () => {
    mayfly(process.execPath, "--help");
    assert.ok(existsSync(join(folder, ".cache/mayfly")));
  });

  const old = olderNode();
  const skip = old === null ? "no Node older than 24 on the PATH" : false;
  test("says in one line that an older Node will not do", { skip }, () => {
    const { status, stdout, stderr } = mayfly(old ?? "", "--help");
    assert.deepEqual([status, stdout], [1, ""]);
    assert.match(stderr, /^mayfly: needs Node\.js 24 or newer, and this is v\d+.*\n$/);
  });

  test("started by an older Node, runs on the one that came along", { skip }, () => {
    const packages = join(folder, "node_modules");
    symlinkSync(join(root, "node_modules"), packages);
    const help = mayfly(old ?? "", "--help");
    const mistake = mayfly(old ?? "", "nonsense");
    rmSync(packages);
    assert.equal(help.status, 0, help.stderr);
    assert.match(help.stdout, /Usage: mayfly/);
    assert.equal(mistake.status, mayfly(process.execPath, "nonsense").status);
  });
});

function olderNode(): string | null {
  const nodes = (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, "node"));
  const old = nodes.find((node) => {
    if (!existsSync(node)) return false;
    const version = spawnSync(node, ["-v"], { encoding: "utf8" }).stdout;
    return Number(/^v(\d+)/.exec(version)?.[1] ?? 24) < 24;
  });
  return old ?? null;
}
