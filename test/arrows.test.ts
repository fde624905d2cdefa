import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";

const root = join(import.meta.dirname, "..");

/** A file, what it imports, and whether the import arrows let it. */
const cases: readonly (readonly [file: string, specifier: string, allowed: boolean])[] = [
  ["domain/a.ts", "./b.ts", true],
  ["domain/a.ts", "node:crypto", true],
  ["domain/a.ts", "node:fs", false],
  ["domain/a.ts", "../store/a.ts", false],
  ["domain/a.ts", "./../store/a.ts", false],
  ["domain/a.ts", "../domain/../store/a.ts", false],
  ["domain/deep/a.ts", "../b.ts", true],
  ["domain/deep/a.ts", "../../store/a.ts", false],
  ["store/a.ts", "../domain/a.ts", true],
  ["store/a.ts", "../fleet/a.ts", false],
  ["store/migrations/a.ts", "../a.ts", true],
  ["store/migrations/a.ts", "../../domain/a.ts", true],
  ["store/migrations/a.ts", "../../providers/provider.ts", false],
  ["forges/forge.ts", "../domain/a.ts", true],
  ["forges/forge.ts", "../providers/provider.ts", false],
  ["forges/registry.ts", "./native/a.ts", true],
  ["forges/native/a.ts", "../forge.ts", true],
  ["forges/native/a.ts", "../../domain/a.ts", true],
  ["forges/native/a.ts", "../registry.ts", false],
  ["forges/native/a.ts", "../gitea/a.ts", false],
  ["forges/native/a.ts", "../../forges/gitea/a.ts", false],
  ["forges/native/a.ts", "../../store/a.ts", false],
  ["forges/native/deep/a.ts", "../a.ts", true],
  ["forges/native/deep/a.ts", "../../forge.ts", true],
  ["forges/native/deep/a.ts", "../../gitea/a.ts", false],
  ["providers/podman/a.ts", "../provider.ts", true],
  ["providers/podman/a.ts", "../host/a.ts", false],
  ["providers/podman/a.ts", "../../forges/forge.ts", false],
  ["guest/a.ts", "../domain/a.ts", true],
  ["guest/a.ts", "../store/a.ts", false],
  ["config/a.ts", "../forges/registry.ts", true],
  ["config/a.ts", "../forges/native/a.ts", false],
  ["config/a.ts", "../store/a.ts", false],
  ["fleet/a.ts", "../store/a.ts", true],
  ["fleet/a.ts", "../forges/forge.ts", true],
  ["fleet/a.ts", "../forges/native/a.ts", false],
  ["fleet/a.ts", "../web/a.ts", false],
  ["sim/a.ts", "../fleet/a.ts", true],
  ["sim/a.ts", "../web/a.ts", false],
  ["web/a.ts", "../fleet/a.ts", true],
  ["web/a.ts", "../cli/a.ts", false],
  ["cli/a.ts", "../web/a.ts", true],
  ["domain/a.test.ts", "../fleet/a.ts", true],
];

describe("import arrows", () => {
  let folder = "";
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "mayfly-arrows-"));
    copyFileSync(join(root, "oxlint.config.ts"), join(folder, "oxlint.config.ts"));
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("each import is let or refused as the table of folders says", () => {
    const files = cases.map(([file, specifier]) => writeImport(folder, file, specifier));
    const refused = refusals(folder);
    for (const [index, [file, specifier, allowed]] of cases.entries()) {
      assert.equal(!refused.has(files[index]!), allowed, `src/${file} imports ${specifier}`);
    }
  });

  test("re-exports, type imports and dynamic imports are imports", () => {
    const forms = [
      'export { a } from "../store/a.ts";',
      'export * from "../store/a.ts";',
      'import type { a } from "../store/a.ts"; export type B = typeof a;',
      'export const a = await import("../store/a.ts");',
    ];
    for (const [index, text] of forms.entries()) {
      writeFileSync(join(folder, "src/domain", `form${index}.ts`), `${text}\n`);
    }
    const refused = refusals(folder);
    for (const [index, text] of forms.entries()) {
      assert.ok(refused.has(`src/domain/form${index}.ts`), text);
    }
  });

  test("every folder of src has its arrows", () => {
    const unruled = readdirSync(join(root, "src"), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name !== "cli")
      .filter(({ name }) => {
        const file = writeImport(folder, `${name}/probe.ts`, "../cli/a.ts");
        return !refusals(folder).has(file);
      });
    assert.deepEqual(unruled, []);
  });
});

/** Writes a file that does nothing but import, under a name of its own; returns its path. */
function writeImport(folder: string, file: string, specifier: string): string {
  const safe = specifier.replaceAll(/[^a-z]/g, "_");
  const path = join(
    "src",
    file.replace(/\w+(?=(\.test)?\.ts$)/, (name) => `${name}-${safe}`),
  );
  mkdirSync(join(folder, dirname(path)), { recursive: true });
  writeFileSync(join(folder, path), `export { a } from "${specifier}";\n`);
  return path;
}

/** The files below the folder in which oxlint refuses an import. */
function refusals(folder: string): Set<string> {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, "node_modules/oxlint/bin/oxlint"), "--format=json", "src"],
    { cwd: folder, encoding: "utf8" },
  );
  assert.ok(stdout.startsWith("{"), `oxlint answers in JSON: ${stdout}${stderr}`);
  const { diagnostics } = JSON.parse(stdout) as {
    diagnostics: { code: string; filename: string }[];
  };
  return new Set(
    diagnostics
      .filter(({ code }) => code === "eslint(no-restricted-imports)")
      .map(({ filename }) => filename),
  );
}
