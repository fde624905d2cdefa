import { readFileSync } from "node:fs";
import type { HandOverContext, RunnerOrders } from "../forge.ts";
import { programLines, startScript, type RunnerPrograms } from "../runner-program.ts";

const start = readFileSync(new URL("./start.sh", import.meta.url), "utf8");
const jobStarted = readFileSync(new URL("./job-started.sh", import.meta.url), "utf8");
const whose = readFileSync(new URL("./job-started.pl", import.meta.url), "utf8");

/**
 * What a machine runs: GitHub's own runner for one job. The configuration is in a file that only its
 * user reads and that is gone before the runner begins; neither an argument nor a variable that we
 * declare holds it. `ACTIONS_RUNNER_HOOK_JOB_STARTED` names what the runner runs before any step,
 * whose failure fails the job (docs.github.com, "Running scripts before or after a job").
 */
export function runnerOrders(
  config: string,
  programs: RunnerPrograms,
  { accept, jobDeadlineSeconds }: HandOverContext,
): RunnerOrders {
  return {
    files: [
      { path: "start.sh", mode: 0o700, content: startScript(start) },
      { path: "job-started.sh", mode: 0o700, content: jobStarted },
      { path: "job-started.pl", mode: 0o700, content: whose },
      { path: "jitconfig", mode: 0o600, content: config },
    ],
    command: ["/bin/sh", "{files}/start.sh"],
    environment: {
      ACTIONS_RUNNER_HOOK_JOB_STARTED: "{files}/job-started.sh",
      MAYFLY_FILES: "{files}",
      MAYFLY_WORK: "{work}",
      MAYFLY_ACCEPT: accept.join(","),
      MAYFLY_JOB_SECONDS: String(jobDeadlineSeconds),
      MAYFLY_RUNNER_PROGRAMS: programLines(programs),
    },
    // JobDispatcher.cs prints "<time>: Running job: <name>".
    startedText: ": Running job: ",
  };
}
