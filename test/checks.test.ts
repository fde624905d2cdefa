import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

// The checks of the source are tests, so that there is one command to run and one thing to pass.
const root = join(import.meta.dirname, "..");
const checks: Readonly<Record<string, { readonly program: string; readonly options: string[] }>> = {
  "types (tsc)": { program: "typescript/bin/tsc", options: ["--pretty", "false"] },
  "lint and import arrows (oxlint)": { program: "oxlint/bin/oxlint", options: ["--format=unix"] },
  "format (prettier; mend with: npx prettier --write .)": {
    program: "prettier/bin/prettier.cjs",
    options: ["--check", "--log-level=warn", "."],
  },
  "unused files, exports and packages (knip)": { program: "knip/bin/knip.js", options: [] },
};

for (const [name, { program, options }] of Object.entries(checks)) {
  test(name, { timeout: 600_000 }, () => {
    const { status, stdout, stderr, error } = spawnSync(
      process.execPath,
      [join(root, "node_modules", program), ...options],
      { cwd: root, encoding: "utf8", env: { ...process.env, NO_COLOR: "1" }, maxBuffer: 2 ** 26 },
    );
    assert.ifError(error);
    assert.ok(status === 0, `${stdout}${stderr}`);
  });
}
