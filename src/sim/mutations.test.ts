import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { text } from "node:stream/consumers";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { mutations } from "./mutations.ts";
import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
/** Enough for the rarest of them to show, several times over. */
const seeds = 900;
/** All of them, on a host that is busy with other tests. */
const rarestMs = 600_000;

describe(
  "a mistake in the fleet",
  { concurrency: availableParallelism(), timeout: 900_000 },
  () => {
    for (const [name, { about, edits, from = 0 }] of Object.entries(mutations)) {
      it(`is noticed: ${about} (${name})`, { timeout: rarestMs }, async () => {
        for (const { file, find } of edits) {
          const source = await readFile(here(`../${file}`), "utf8");
          assert.equal(source.split(find).length, 2, `${file} has once: ${find}`);
        }
        const range = ["--from", `${from}`, "--seeds", `${seeds}`];
        const { code, output } = await soakWith(name, ...range, "--first");
        assert.match(output, /^seed \d+: [a-z-]+ \(/m, output);
        assert.equal(code, 1);
      });
    }
  },
);

it("no mistake, no alarm: the same seeds pass as the code stands", async () => {
  const { violation } = await run(scenarioOf(13));
  assert.equal(violation, null);
});

it("a run that breaks is made small and told in words", async () => {
  const { code, output } = await soakWith("keep-idle", "--from", "2", "--seeds", "1");
  assert.equal(code, 1);
  const [, story = ""] = output.split("seed 2, made small:");
  assert.match(story, /^Pool p\d on \w+: .*; takes trusted/m);
  assert.match(story, /\d s {2}job \d+ waits for /);
  assert.match(story, /\d s {2}BROKEN no-leak \(no machine or registration outlives its bound\)/);
  const { jobs } = await run(scenarioOf(2));
  const left = story.match(/ waits for /g)?.length ?? 0;
  assert.ok(left > 0 && left < jobs, `${left} jobs of ${jobs} are left`);
  assert.match(output, /1 seeds, 1 violations, [\d.]+ seeds\/s\n$/);
});

async function soakWith(
  mutation: string,
  ...options: string[]
): Promise<{ code: number | null; output: string }> {
  const args = ["--import", new URL("mutate.ts", import.meta.url).href, here("soak.ts")];
  const child = spawn(process.execPath, [...args, "--workers", "1", ...options], {
    env: { ...process.env, MAYFLY_MUTATION: mutation },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [output, errors, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "exit") as Promise<[number | null]>,
  ]);
  return { code, output: output + errors };
}
