import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { exit } from "./exit.ts";
import { program } from "./program.ts";

const page = join(import.meta.dirname, "..", "..", "docs", "cli.md");
const text = await readFile(page, "utf8");

test("the manual names every command", () => {
  const root = program(
    () => "",
    () => {},
  );
  for (const command of root.commands) {
    const inner = command.commands.map((one) => `${command.name()} ${one.name()}`);
    for (const name of inner.length === 0 ? [command.name()] : inner) {
      assert.match(text, new RegExp(`\`${name}[ \`]`), name);
    }
  }
});

test("the manual's exit statuses are those there are", () => {
  const told = [...text.matchAll(/^\| (\d+) +\|/gm)].map(([, status]) => Number(status));
  assert.deepEqual(
    told,
    Object.values(exit).toSorted((a, b) => a - b),
  );
});
