import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../../domain/errors.ts";
import { labelClass } from "../../domain/matching.ts";
import { free } from "../../domain/money.ts";
import type { Runner } from "../../domain/runner.ts";
import { counted } from "../../domain/words.ts";
import type { Forge } from "../../forges/forge.ts";

const shownWithinMs = 30_000;

/**
 * Does with a forge what serving it needs: asks for its jobs, registers a runner that nobody runs,
 * finds it there, and removes it. `say` gets a line a step. Throws the forge's own `MayflyError`.
 */
export async function roundTrip(
  forge: Forge,
  runnerName: string,
  label: string,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const jobs = await forge.poll(signal);
  say(
    `asked for its jobs: ${jobs.length === 0 ? "none waits or runs" : counted(jobs.length, "job")}`,
  );
  try {
    const runner = runnerOf(forge.name, runnerName, label);
    const context = { accept: ["trusted"], jobDeadlineSeconds: 60 } as const;
    const orders = await forge.handOver?.(runner, context, signal);
    if (orders === null) {
      const registered = await forge.registrations(signal);
      say(
        `listed its runners: ${registered.length} of ours; each is registered for a job that waits`,
      );
      return;
    }
    say(`registered a runner, ${runnerName}`);
    await shown(forge, runnerName, signal);
    say("found it in the forge's list");
  } finally {
    const outcome = await forge.remove(runnerName, signal);
    say(
      outcome === "gone" ? "no runner of it is left" : `the forge does not let go of ${runnerName}`,
    );
  }
}

/** Lists lag. */
async function shown(forge: Forge, name: string, signal: AbortSignal): Promise<void> {
  const endAt = performance.now() + shownWithinMs;
  for (;;) {
    const registrations = await forge.registrations(signal);
    if (registrations.some((registration) => registration.name === name)) return;
    if (performance.now() > endAt) break;
    await sleep(1000, undefined, { signal });
  }
  throw new MayflyError("unavailable", `the forge does not list the runner that it registered`, {
    hint: "Does the token see the runners of this address, and not only those of another?",
  });
}

function runnerOf(forge: string, name: string, label: string): Runner {
  const never = {
    bornAt: null,
    askedAt: null,
    upAt: null,
    handedAt: null,
    startedAt: null,
    finishedAt: null,
    endedAt: null,
    goneAt: null,
    dueAt: null,
  };
  return {
    ...never,
    name,
    pool: "init",
    forge,
    provider: "init",
    labels: [label],
    labelClass: labelClass([label]),
    size: { cpu: 1, memoryMb: 1024, diskGb: 1, gpu: 0, architecture: "x64" },
    price: free,
    state: "up",
    reason: "a round trip",
    job: null,
    claimedAt: 0,
    tries: 0,
    costMicroUsd: 0,
  };
}
