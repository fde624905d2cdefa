import type {
  FakeGiteaState,
  FakeJob,
  FakePull,
  FakeRun,
  FakeRunner,
  FakeStatus,
} from "./state.ts";

/* The answers of a Gitea that is played: the shapes of `services/convert/convert.go`, 1.26 and 1.27. */

const words: Readonly<Record<FakeStatus, readonly [string, string]>> = {
  blocked: ["waiting", ""],
  waiting: ["queued", ""],
  running: ["in_progress", ""],
  success: ["completed", "success"],
  failure: ["completed", "failure"],
  cancelled: ["completed", "cancelled"],
  skipped: ["completed", "skipped"],
};

export function jobShape(state: FakeGiteaState, url: string, job: FakeJob): object {
  const { run } = job;
  const [status, conclusion] = words[job.status];
  const runner = state.runners.get(job.runnerId);
  const api = `${url}/api/v1/repos/${run.repository}/actions`;
  return {
    id: job.id,
    url: `${api}/jobs/${job.id}`,
    html_url: `${url}/${run.repository}/actions/runs/${run.id}/jobs/${job.id}`,
    run_id: run.id,
    run_url: `${api}/runs/${run.id}`,
    name: job.name,
    labels: job.labels,
    run_attempt: job.attempt,
    head_sha: "0".repeat(40),
    ...branchOf(run),
    status,
    ...(conclusion === "" ? {} : { conclusion }),
    ...(job.runnerId === 0 ? {} : { runner_id: job.runnerId }),
    // Its name is looked up when asked: it goes with the registration.
    ...(runner === undefined ? {} : { runner_name: runner.name }),
    steps: [],
    created_at: timeShape(job.createdAt),
    started_at: timeShape(job.startedAt),
    completed_at: timeShape(job.stoppedAt),
  };
}

function branchOf({ ref }: FakeRun): object {
  const [, name] = /^refs\/heads\/(.+)$/.exec(ref) ?? [];
  return name === undefined ? {} : { head_branch: name };
}

export function runShape(state: FakeGiteaState, url: string, run: FakeRun): object {
  const jobs = [...state.jobs.values()].filter((job) => job.run === run);
  const statuses = jobs.map(({ status }) => words[status][0]);
  const open = ["in_progress", "queued", "waiting"].find((one) => statuses.includes(one));
  return {
    id: run.id,
    url: `${url}/api/v1/repos/${run.repository}/actions/runs/${run.id}`,
    event: run.event,
    path: `build.yml@${run.ref}`,
    ...branchOf(run),
    head_sha: "0".repeat(40),
    html_url: `${url}/${run.repository}/actions/runs/${run.id}`,
    run_attempt: Math.max(1, ...jobs.map(({ attempt }) => attempt)),
    status: open ?? (jobs.length === 0 ? "queued" : "completed"),
  };
}

const [baseId, forkId] = [1, 2];

export function pullShape({ number, from }: FakePull): object {
  const base = { label: "main", ref: "main", repo_id: baseId, repo: { id: baseId } };
  const heads = {
    branch: { label: "topic", ref: "topic", repo_id: baseId, repo: { id: baseId } },
    fork: { label: "topic", ref: "topic", repo_id: forkId, repo: { id: forkId } },
    deleted: { label: "topic", ref: `refs/pull/${number}/head`, repo_id: forkId, repo: null },
    flow: { label: "", ref: `refs/pull/${number}/head`, repo_id: baseId, repo: { id: baseId } },
  };
  return { id: number, number, head: heads[from], base };
}

export function runnerShape(runner: FakeRunner): object {
  return {
    id: runner.id,
    name: runner.name,
    status: runner.status,
    busy: runner.busy,
    disabled: runner.isDisabled,
    ephemeral: runner.isEphemeral,
    labels: runner.labels.map((name, id) => ({ id, name, type: "custom" })),
  };
}

/** Go's zero is the beginning of 1970 here. */
function timeShape(at: number): string {
  return new Date(Math.floor(at / 1000) * 1000).toISOString().replace(".000Z", "Z");
}
