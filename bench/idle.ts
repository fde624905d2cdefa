import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "./bundle.ts";
import type { Bench } from "./measure.ts";

const settleMs = 10_000;
const watchMs = 30_000;
/** Linux counts a process's time in hundredths of a second. */
const ticksPerSecond = 100;

/** The shipped command as a whole manager with nothing to do and nobody looking. Linux only: it reads /proc. */
export const idle: Bench = {
  name: "idle",
  about: `a manager with nothing to do, for ${watchMs / 1000} s`,
  run: async () => {
    const folder = mkdtempSync(join(tmpdir(), "mayfly-bench-"));
    const config = join(folder, "mayfly.yaml");
    writeFileSync(
      config,
      "listen: 127.0.0.1:0\nproviders:\n  box:\n    host: {}\npools:\n  small:\n    provider: box\n    accept: [trusted]\n",
    );
    const main = bundle(folder);
    const manager = spawn(
      process.execPath,
      [main, "up", "--config", config, "--state", join(folder, "state")],
      { stdio: ["ignore", "pipe", "ignore"] },
    );
    try {
      await new Promise((resolve, reject) => {
        manager.stdout.once("data", resolve);
        manager.once("exit", (code) => reject(new Error(`mayfly up ended with status ${code}`)));
      });
      manager.stdout.resume();
      await new Promise((resolve) => setTimeout(resolve, settleMs));
      const before = cpuSeconds(manager.pid);
      await new Promise((resolve) => setTimeout(resolve, watchMs));
      const share = ((cpuSeconds(manager.pid) - before) / (watchMs / 1000)) * 100;
      return [
        {
          name: "idle memory",
          value: memoryMb(manager.pid),
          unit: "MB",
          limit: 120,
          limitName: "bound",
          sense: "at most",
          goal: 1,
        },
        {
          name: "idle processor",
          value: share,
          unit: "% of a core",
          limit: 1,
          limitName: "bound",
          sense: "at most",
          goal: 1,
        },
      ];
    } finally {
      if (manager.exitCode === null && manager.kill("SIGTERM")) await once(manager, "exit");
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

function cpuSeconds(pid: number | undefined): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function memoryMb(pid: number | undefined): number {
  const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kb) / 1024;
}
