import { posix } from "node:path";
import { readJunit, type TestCase } from "./junit.ts";
import { isGood, verdictOf, type Script, type StepResult, type Verdict } from "./steps.ts";
import type { ZeroCiJob } from "./zeroci-file.ts";

export interface ZeroCiParts {
  /** `org/repository`, as in the paths that its users have written into their steps. */
  readonly repository: string;
  /** Called after a step that left a report, with its cases. */
  readonly report: (cases: readonly TestCase[] | null) => void;
}

/** Its own service's limits for a job, and for one that says nothing. */
const jobSeconds = 3600;
const silenceSeconds = 600;

/** The work folder where users expect it, and the folder for built programs. $1: org/repository. */
const layOutScript = String.raw`
place=/zeroci/code/vcs_repos/$1
mkdir -p -- /zeroci/bin "$(dirname -- "$place")" && ln -s -- "$PWD" "$place"
`;

/** $1: the work folder by its public name; $2: the shell; $3: the commands. */
const runScript = String.raw`
rm -f -- /test.xml
cd -- "$1" && exec "$2" -c "$3"
`;

const outFolder = "/zeroci/out";
const bringOutScript = 'mkdir -p -- "$1" && cp -- "$2" "$1/"';

/**
 * Runs one job of a zeroCI.yaml: `install`, which must succeed, then every step of `script`, each
 * with its report `/test.xml` if it leaves one. A step that fails does not keep the next from
 * running; the verdict is that of the first that failed.
 */
export async function* zeroCiScript(job: ZeroCiJob, parts: ZeroCiParts): Script {
  const folder = `/zeroci/code/vcs_repos/${parts.repository}`;
  const layOut = ["sh", "-c", layOutScript, "mayfly", parts.repository];
  const laidOut = yield { title: null, command: layOut };
  if (!isGood(laidOut)) {
    const detail = `/zeroci cannot be made: ${laidOut.stderr.trim() || laidOut.detail}`;
    return { ...verdictOf(laidOut), detail, endsAll: true };
  }
  const commandOf = (text: string) => ["sh", "-c", runScript, "mayfly", folder, job.shell, text];
  const limits = { timeoutSeconds: jobSeconds, silenceSeconds };
  if (job.install.trim() !== "") {
    const installed = yield { title: "install", command: commandOf(job.install), ...limits };
    if (!isGood(installed)) return { ...verdictOf(installed), endsAll: true };
  }
  let verdict: Verdict = { how: "exited", exitCode: 0, detail: "" };
  for (const { name, command } of job.steps) {
    const artifacts = { root: "/", patterns: ["test.xml"], to: "memory" } as const;
    const step = { title: name, command: commandOf(command), ...limits, artifacts };
    const result: StepResult = yield step;
    const report = result.files.get("test.xml");
    if (report !== undefined) parts.report(readJunit(report.toString("utf8")));
    if (isGood(verdict) && !isGood(result)) verdict = verdictOf(result);
    // One that was killed, or ran out of time, leaves no sound ground for the next.
    const isOver = result.how !== "exited" || result.exitCode === 137 || result.exitCode === 124;
    if (isOver) return { ...verdict, endsAll: true };
  }
  if (job.binary !== null) {
    const path = posix.resolve(folder, job.binary);
    const artifacts = { root: outFolder, patterns: ["**"], to: "folder" } as const;
    const command = ["sh", "-c", bringOutScript, "mayfly", outFolder, path];
    const brought = yield { title: `bringing out ${job.binary}`, command, artifacts };
    if (isGood(verdict) && !isGood(brought)) return verdictOf(brought);
  }
  return verdict;
}
