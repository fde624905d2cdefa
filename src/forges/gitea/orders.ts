import { readFileSync } from "node:fs";
import type { Runner } from "../../domain/runner.ts";
import type { HandOverContext, RunnerOrders } from "../forge.ts";
import { programLines, startScript, type RunnerPrograms } from "../runner-program.ts";
import type { Registered } from "./client.ts";

export interface OrderParts {
  /** Where the machine reaches the server. */
  readonly url: string;
  readonly runner: Runner;
  readonly registered: Registered;
  readonly context: HandOverContext;
  readonly programs: RunnerPrograms;
  /** Programs that cannot refuse forks may serve pools that take none. */
  readonly oldRunners: boolean;
}

/** As long as the fleet keeps a warm machine waiting at most. */
const idleSecondsMax = 24 * 3600;

/** What a machine runs to take one job of Gitea's: `start.sh` says how. */
export function ordersFor(parts: OrderParts): RunnerOrders {
  const { context, programs, oldRunners } = parts;
  const refuses = !context.accept.includes("fork");
  return {
    files: [
      { path: "start.sh", mode: 0o600, content: startScript(script("./start.sh")) },
      { path: "registration", mode: 0o600, content: registrationOf(parts) },
      ...(refuses
        ? [{ path: "refuse-forks.pl", mode: 0o700, content: script("./refuse-forks.pl") }]
        : []),
    ],
    command: ["sh", "{files}/start.sh"],
    environment: {
      MAYFLY_FILES: "{files}",
      MAYFLY_WORK: "{work}",
      MAYFLY_JOB_SECONDS: String(context.jobDeadlineSeconds),
      MAYFLY_LIFE_SECONDS: String(context.jobDeadlineSeconds + idleSecondsMax),
      MAYFLY_RUNNER_PROGRAMS: programLines(programs),
      ...(oldRunners ? { MAYFLY_OLD_RUNNERS: "1" } : {}),
    },
    // `task 7 repo is acme/rocket …`, from `internal/app/run/runner.go`, 0.2 to 3.3.
    startedText: 'msg="task ',
  };
}

/** What the program's own `register` would have written to `.runner`. */
function registrationOf({ url, runner, registered }: OrderParts): string {
  return JSON.stringify({
    id: registered.id,
    uuid: registered.uuid,
    name: runner.name,
    token: registered.token,
    address: url,
    labels: runner.labels.map(programLabel),
    ephemeral: true,
  });
}

/** Jobs run on the machine itself. A label with a colon is taken as it is, and means that too. */
function programLabel(label: string): string {
  return label.includes(":") ? label : `${label}:host`;
}

const scripts = {
  "./start.sh": new URL("./start.sh", import.meta.url),
  "./refuse-forks.pl": new URL("./refuse-forks.pl", import.meta.url),
} as const;
const read = new Map<string, string>();

function script(path: keyof typeof scripts): string {
  let content = read.get(path);
  if (content === undefined) {
    content = readFileSync(scripts[path], "utf8");
    read.set(path, content);
  }
  return content;
}
