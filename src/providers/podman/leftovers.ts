import { readFile, readdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { runTool, toolEnvironment } from "../child.ts";
import { podmanMend } from "./engine.ts";

/**
 * Ends what podman forgets when it is killed (by the kernel, short of memory) between making a
 * container and writing that down: its conmon and the runtime's init, both waiting for ever, and
 * the runtime's own record. `cid` is the container's id. Call it when podman knows the container no
 * more. False when something is left.
 */
export async function endLeftovers(
  cid: string,
  runtime: string,
  signal: AbortSignal,
): Promise<boolean> {
  for (let tries = 0; tries < 40; tries += 1) {
    const left = await processesOf(cid);
    if (left.length === 0) return true;
    // conmon needs some milliseconds to follow its container; only then is it left over.
    if (tries > 4) {
      for (const pid of left) kill(pid);
      const environment = toolEnvironment();
      const options = { signal, environment, mend: podmanMend };
      await runTool(runtime, ["delete", "--force", cid], options);
    }
    await sleep(25, undefined, { signal });
  }
  return false;
}

/** Processes in the container's cgroup, and its conmon, which names it. */
async function processesOf(cid: string): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry)).map(Number);
  const named = await Promise.all(
    pids.map(async (pid) => {
      const [command, cgroup] = await Promise.all(
        ["cmdline", "cgroup"].map((file) =>
          readFile(`/proc/${pid}/${file}`, "utf8").catch(() => ""),
        ),
      );
      const isConmon = /^[^\0]*conmon\0/.test(command ?? "") && command?.includes(`\0${cid}\0`);
      // A zombie's cgroup stays, but its command is gone, and it needs no killing.
      return isConmon || (command !== "" && cgroup?.includes(cid)) ? pid : null;
    }),
  );
  return named.filter((pid) => pid !== null);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself meanwhile.
  }
}
