import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { forges } from "../forges/registry.ts";
import { providers } from "../providers/registry.ts";
import { parseConfig } from "./load.ts";
import { jsonSchema, keyTable } from "./reference.ts";
import { sampleSurroundings } from "./samples.ts";

const page = join(import.meta.dirname, "..", "..", "docs", "configuration.md");
const kinds = { forges, providers };
const marks = /(?<=<!-- keys -->\n)[^]*(?=<!-- \/keys -->)/;

const howToMend = "run this test with UPDATE_DOCS=1, then prettier, to mend it";

/** Prettier pads the cells of a table. */
function rows(table: string): string[] {
  return table
    .trim()
    .split("\n")
    .map((row) => row.replace(/ +/g, " ").replace(/-{3,}/g, "---"));
}

test("the manual's table of keys is that of the schema", async () => {
  const text = await readFile(page, "utf8");
  const table = `${keyTable(jsonSchema(kinds))}\n`;
  if (process.env["UPDATE_DOCS"] === "1")
    await writeFile(
      page,
      text.replace(marks, () => table),
    );
  else assert.deepEqual(rows(marks.exec(text)?.[0] ?? ""), rows(table), howToMend);
});

test("every key is described", () => {
  for (const line of keyTable(jsonSchema(kinds)).split("\n").slice(2)) {
    assert.doesNotMatch(line, /\|\s*\|/, line);
  }
});

test("every configuration in the manual is good", async () => {
  const text = await readFile(page, "utf8");
  const samples = [...text.matchAll(/```yaml\n([^]*?)```/g)].map(([, sample = ""]) => sample);
  assert.ok(samples.length > 0);
  for (const sample of samples) {
    await parseConfig(sample, "mayfly.yaml", { ...sampleSurroundings(), kinds });
  }
});
