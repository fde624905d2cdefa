import { spawnSync } from "node:child_process";
import { createWriteStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Chance } from "../src/sim/chance.ts";
import type { Bench } from "./measure.ts";

const jobs = 1_000_000;
const root = join(import.meta.dirname, "..");

const config = `
providers:
  box: { host: {} }
pools:
  small: { provider: box, labels: [linux, x64], size: 1cpu1gb, max: 60, warm: 2 }
`;

/** The command as people call it, on a file: reading, running and summing up. */
export const simulate: Bench = {
  name: "simulate",
  about: `a history of ${jobs} jobs by the planner, in a process of its own`,
  run: async () => {
    const folder = mkdtempSync(join(tmpdir(), "mayfly-bench-"));
    try {
      const [trace, setting, usage] = ["jobs.csv", "mayfly.yaml", "usage"].map((name) =>
        join(folder, name),
      ) as [string, string, string];
      await writeTrace(trace);
      writeFileSync(setting, config);
      const probe = join(folder, "probe.mjs");
      // ru_maxrss, in kilobytes: the most that was ever resident.
      writeFileSync(
        probe,
        `import { writeFileSync } from "node:fs";
         process.on("exit", () => writeFileSync(${JSON.stringify(usage)},
           String(process.resourceUsage().maxRSS)));`,
      );
      const main = join(root, "src/cli/main.ts");
      const words = ["simulate", "--trace", trace, "--config", setting];
      const startedAt = performance.now();
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        ["--import", probe, main, ...words, "--policies", "mayfly", "--boot", "20s", "--json"],
        { cwd: folder, encoding: "utf8", env: { ...process.env, MAYFLY_STATE: folder } },
      );
      const seconds = (performance.now() - startedAt) / 1000;
      if (status !== 0) throw new Error(`mayfly simulate ended with status ${status}: ${stderr}`);
      const { results } = JSON.parse(stdout) as { results: { jobs: number; unserved: number }[] };
      if (results[0]?.jobs !== jobs || results[0].unserved !== 0)
        throw new Error("jobs are missing");
      return [
        measure("time", seconds, "s", 60),
        measure("memory", Number(readFileSync(usage, "utf8")) / 1024, "MB", 500),
      ];
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
};

function measure(name: string, value: number, unit: string, limit: number) {
  const limitName = "the bound that the manual states";
  return { name, value, unit, limit, limitName, sense: "at most" as const, goal: 1 };
}

/** Two years of jobs that come by chance, and now and then wait for a machine. */
async function writeTrace(file: string): Promise<void> {
  const next = new Chance(1).stream("jobs");
  const output = createWriteStream(file);
  output.write("queued_at,duration_s,labels,name,conclusion\n");
  let at = Date.UTC(2024, 0, 1);
  let lines = "";
  for (let job = 0; job < jobs; job++) {
    at += -Math.log(1 - next()) * 60_000;
    const seconds = Math.round(-Math.log(1 - next()) * 1800);
    const labels = next() < 0.5 ? "linux" : "linux;x64";
    lines += `${new Date(at).toISOString()},${seconds},${labels},test,success\n`;
    if (lines.length < 1e6) continue;
    if (!output.write(lines)) await once(output, "drain");
    lines = "";
  }
  output.end(lines);
  await once(output, "finish");
}
