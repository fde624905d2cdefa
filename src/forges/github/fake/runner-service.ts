import type { FakeAnswer, FakeCall } from "./routes.ts";
import type { FakeGithub } from "./server.ts";
import { runEventShape, type FakeJob, type FakeRunner } from "./shapes.ts";

/**
 * What GitHub's runner talks to, in the least that a script can speak: it shows its configuration,
 * gets the longest waiting job that it matches, and says how that went. As there, any runner that
 * has a job's labels may get it.
 */
export class FakeRunnerService {
  readonly #fake: FakeGithub;
  /** Called when a job has moved on, as GitHub sends its events then. */
  readonly moved: (job: FakeJob) => void;
  readonly taken: { readonly job: number; readonly runner: string }[] = [];

  constructor(fake: FakeGithub, moved: (job: FakeJob) => void) {
    this.#fake = fake;
    this.moved = moved;
    fake.service = (call) => this.#serve(call);
  }

  #serve(call: FakeCall): Promise<FakeAnswer> | null {
    const deed = /^\/runner\/(take|finish)$/.exec(call.path)?.[1];
    if (deed === undefined) return null;
    const runner = this.#fake.state.runnerOf(String(call.body["config"]));
    if (runner === null) return Promise.resolve({ status: 401, body: { message: "who?" } });
    return Promise.resolve(deed === "take" ? this.#take(runner) : this.#finish(runner, call));
  }

  #take(runner: FakeRunner): FakeAnswer {
    runner.isOnline = true;
    if (runner.isBusy) return { status: 409, body: { message: "It has had its job." } };
    const offered = new Set(runner.labels.map((label) => label.toLowerCase()));
    const job = [...this.#fake.state.jobs.values()].find(
      ({ status, labels }) =>
        status === "queued" && labels.every((label) => offered.has(label.toLowerCase())),
    );
    if (job === undefined) return { status: 200, body: { job: 0 } };
    this.#fake.state.start(job, runner.name);
    this.taken.push({ job: job.id, runner: runner.name });
    this.moved(job);
    const { run } = job;
    const event = {
      ...runEventShape(this.#fake.state.api, run, "requested"),
      ...(run.event === "pull_request"
        ? { pull_request: { head: { repo: run.head && { full_name: run.head.fullName } } } }
        : {}),
    };
    const body = { job: job.id, repository: run.repository.fullName, event };
    return { status: 200, body };
  }

  #finish(runner: FakeRunner, call: FakeCall): FakeAnswer {
    const { state } = this.#fake;
    const job = [...state.jobs.values()].find((each) => each.runner === runner);
    if (job === undefined || job.status !== "in_progress") return { status: 404, body: {} };
    state.end(job, String(call.body["conclusion"]));
    this.moved(job);
    return { status: 200, body: {} };
  }
}

/** A `run.sh` that speaks this. `TEST_SECONDS`: how long its job takes. */
export function fakeRunnerScript(origin: string): string {
  return `#!/bin/bash
set -u
config=$ACTIONS_RUNNER_INPUT_JITCONFIG
unset ACTIONS_RUNNER_INPUT_JITCONFIG
ask() { curl -fsS -H 'content-type: application/json' -d "$2" "${origin}/runner/$1"; }
echo "√ Connected to GitHub"
echo "$(date -u '+%Y-%m-%d %H:%M:%SZ'): Listening for Jobs"
while :; do
  answer=$(ask take "{\\"config\\":\\"$config\\"}") || exit 0
  case $answer in *'"job":0}'*) sleep 0.2 ;; *) break ;; esac
done
echo "$(date -u '+%Y-%m-%d %H:%M:%SZ'): Running job: build"
printf '%s' "$answer" | perl -ne 'print $1 if /"event":(.*)}$/' >event.json
export GITHUB_EVENT_PATH=$PWD/event.json GITHUB_REPOSITORY=acme/widget
conclusion=success
bash -e "$ACTIONS_RUNNER_HOOK_JOB_STARTED" || conclusion=failure
[ $conclusion = failure ] || sleep 1
ask finish "{\\"config\\":\\"$config\\",\\"conclusion\\":\\"$conclusion\\"}" >/dev/null
echo "$(date -u '+%Y-%m-%d %H:%M:%SZ'): Job build completed with result: Succeeded"
exit 0
`;
}
