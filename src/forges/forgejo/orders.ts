import { readFileSync } from "node:fs";
import type { Runner } from "../../domain/runner.ts";
import type { HandOverContext, RunnerOrders } from "../forge.ts";
import { programLines, startScript, type RunnerPrograms } from "../runner-program.ts";
import type { Registered } from "./answers.ts";

export interface OrderParts {
  /** Where the machine reaches the server. */
  readonly url: string;
  readonly runner: Runner;
  readonly registered: Registered;
  /** Of the one job it is to take. */
  readonly handle: string;
  readonly context: HandOverContext;
  readonly programs: RunnerPrograms;
}

/** To take a job that has been promised, and to report one that took all of its time. */
const spareSeconds = 900;

/** What a machine runs to take its job of Forgejo's: `start.sh` says how. */
export function ordersFor(parts: OrderParts): RunnerOrders {
  const { url, runner, registered, handle, context, programs } = parts;
  // A colon ends a label's name there.
  const labels = runner.labels.filter((label) => !label.includes(":"));
  return {
    files: [
      { path: "start.sh", mode: 0o600, content: startScript(ownScript()) },
      { path: "token", mode: 0o600, content: registered.token },
    ],
    command: [
      "sh",
      "{files}/start.sh",
      ...["--url", url, "--uuid", registered.uuid, "--handle", handle],
      ...labels.flatMap((label) => ["--label", `${label}:host`]),
    ],
    environment: {
      MAYFLY_FILES: "{files}",
      MAYFLY_WORK: "{work}",
      MAYFLY_JOB_SECONDS: String(context.jobDeadlineSeconds),
      MAYFLY_LIFE_SECONDS: String(context.jobDeadlineSeconds + spareSeconds),
      MAYFLY_RUNNER_PROGRAMS: programLines(programs),
    },
    // `task 7 repo is acme/rocket …`, from `internal/app/run/runner.go`.
    startedText: 'msg="task ',
  };
}

let script: string | undefined;

function ownScript(): string {
  script ??= readFileSync(new URL("./start.sh", import.meta.url), "utf8");
  return script;
}
