import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "./bundle.ts";
import { median, type Bench } from "./measure.ts";

const runs = 25;

/** The shipped bundle, started as a user starts it, beside a Node that does nothing. */
export const help: Bench = {
  name: "help",
  about: "the time from typing to reading",
  run: async () => {
    const folder = mkdtempSync(join(tmpdir(), "mayfly-bench-"));
    try {
      const mayfly = bundle(folder);
      const own: number[] = [];
      const bare: number[] = [];
      timeOf([mayfly, "--help"], folder);
      for (let run = 0; run < runs; run++) {
        bare.push(timeOf(["-e", "0"], folder));
        own.push(timeOf([mayfly, "--help"], folder));
      }
      return [
        {
          name: "mayfly --help",
          value: median(own),
          unit: "ms",
          limit: median(bare),
          limitName: "node -e 0",
          sense: "at most",
          goal: 3,
        },
      ];
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
};

function timeOf(words: readonly string[], cache: string): number {
  const startedAt = performance.now();
  const { status } = spawnSync(process.execPath, words, {
    env: { ...process.env, XDG_CACHE_HOME: cache },
  });
  if (status !== 0) throw new Error(`node ${words.join(" ")} ended with status ${status}`);
  return performance.now() - startedAt;
}
