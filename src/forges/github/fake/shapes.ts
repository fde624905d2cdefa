/*
 * GitHub's objects in full, as its published OpenAPI document demands them, from the little that
 * the fake keeps. A test holds every answer against that document.
 */

export interface FakeRepository {
  readonly id: number;
  readonly fullName: string;
  pushedAt: number;
  readonly isPrivate: boolean;
}

export interface FakeRun {
  readonly id: number;
  readonly repository: FakeRepository;
  /** Null: the fork is gone. */
  readonly head: FakeRepository | null;
  readonly event: string;
  readonly createdAt: number;
  updatedAt: number;
  attempt: number;
  /** Jobs that need others are to come: it is not over when those that there are have ended. */
  hasMore: boolean;
}

export interface FakeJob {
  readonly id: number;
  readonly run: FakeRun;
  readonly attempt: number;
  /** Said of it beside its log. */
  readonly annotations: string[];
  readonly name: string;
  readonly labels: readonly string[];
  status: "queued" | "in_progress" | "completed" | "waiting";
  conclusion: string | null;
  readonly createdAt: number;
  startedAt: number;
  completedAt: number | null;
  runner: FakeRunner | null;
}

export interface FakeRunner {
  readonly id: number;
  readonly name: string;
  readonly labels: readonly string[];
  readonly group: number;
  isOnline: boolean;
  /** What the API shows, which lags behind. */
  showsBusy: boolean;
  /** What refuses its removal. */
  isBusy: boolean;
}

export interface FakeDelivery {
  readonly id: number;
  readonly guid: string;
  readonly at: number;
  readonly event: string;
  readonly action: string;
  readonly status: number;
  readonly isAgain: boolean;
}

type Shape = Readonly<Record<string, unknown>>;

function time(at: number): string {
  return new Date(at).toISOString().replace(/\.\d+Z$/, "Z");
}

function links(base: string, names: readonly string[]): Shape {
  return Object.fromEntries(names.map((name) => [`${name}_url`, `${base}/${name}`]));
}

const userLinks = [
  "avatar",
  "events",
  "followers",
  "following",
  "gists",
  "html",
  "organizations",
  "received_events",
  "repos",
  "starred",
  "subscriptions",
];
const repositoryLinks = [
  ...["archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits"],
  ...["compare", "contents", "contributors", "deployments", "downloads", "events", "forks"],
  ...["git_commits", "git_refs", "git_tags", "hooks", "html", "issue_comment", "issue_events"],
  ...["issues", "keys", "labels", "languages", "merges", "milestones", "notifications", "pulls"],
  ...[
    "releases",
    "stargazers",
    "statuses",
    "subscribers",
    "subscription",
    "tags",
    "teams",
    "trees",
  ],
];

function userShape(api: string, login: string): Shape {
  const url = `${api}/users/${login}`;
  const more = { gravatar_id: "", id: 1, node_id: "U_1", login, site_admin: false, type: "User" };
  return { ...links(url, userLinks), ...more, url };
}

export function repositoryShape(api: string, repository: FakeRepository): Shape {
  const { id, fullName, isPrivate, pushedAt } = repository;
  const [owner = "", name = ""] = fullName.split("/");
  const url = `${api}/repos/${fullName}`;
  return {
    ...links(url, repositoryLinks),
    id,
    node_id: `R_${id}`,
    name,
    full_name: fullName,
    owner: userShape(api, owner),
    private: isPrivate,
    description: null,
    fork: false,
    url,
    archived: false,
    disabled: false,
    pushed_at: time(pushedAt),
  };
}

export function runShape(api: string, run: FakeRun, status: string): Shape {
  const url = `${api}/repos/${run.repository.fullName}/actions/runs/${run.id}`;
  return {
    id: run.id,
    name: "CI",
    node_id: `WFR_${run.id}`,
    head_branch: "main",
    head_sha: "0123456789abcdef0123456789abcdef01234567",
    path: ".github/workflows/ci.yml",
    run_number: run.id,
    run_attempt: run.attempt,
    display_title: "A change",
    event: run.event,
    status,
    conclusion: status === "completed" ? "success" : null,
    workflow_id: 1,
    url,
    html_url: url,
    created_at: time(run.createdAt),
    updated_at: time(run.updatedAt),
    pull_requests: [],
    ...links(url, ["jobs", "logs", "check_suite", "cancel", "rerun", "artifacts", "workflow"]),
    head_commit: {
      id: "0123456789abcdef0123456789abcdef01234567",
      tree_id: "0123456789abcdef0123456789abcdef01234567",
      message: "A change",
      timestamp: time(run.createdAt),
      author: { name: "A", email: "a@example.org" },
      committer: { name: "A", email: "a@example.org" },
    },
    repository: repositoryShape(api, run.repository),
    head_repository: run.head === null ? null : repositoryShape(api, run.head),
  };
}

export function jobShape(api: string, job: FakeJob): Shape {
  const base = `${api}/repos/${job.run.repository.fullName}`;
  return {
    id: job.id,
    run_id: job.run.id,
    run_url: `${base}/actions/runs/${job.run.id}`,
    run_attempt: job.attempt,
    node_id: `CR_${job.id}`,
    head_sha: "0123456789abcdef0123456789abcdef01234567",
    url: `${base}/actions/jobs/${job.id}`,
    html_url: `${base}/actions/runs/${job.run.id}/job/${job.id}`,
    status: job.status,
    conclusion: job.conclusion,
    created_at: time(job.createdAt),
    started_at: time(job.startedAt),
    completed_at: job.completedAt === null ? null : time(job.completedAt),
    name: job.name,
    steps: [],
    check_run_url: `${base}/check-runs/${job.id}`,
    labels: job.labels,
    runner_id: job.runner?.id ?? null,
    runner_name: job.runner?.name ?? null,
    runner_group_id: job.runner?.group ?? null,
    runner_group_name: job.runner === null ? null : "Default",
    workflow_name: "CI",
    head_branch: "main",
  };
}

export function annotationShape(message: string): Shape {
  const at = { start_line: 1, end_line: 1, start_column: null, end_column: null };
  return {
    ...at,
    path: ".github",
    annotation_level: "failure",
    title: "",
    message,
    raw_details: "",
    blob_href: "",
  };
}

export function runnerShape(runner: FakeRunner): Shape {
  return {
    id: runner.id,
    runner_group_id: runner.group,
    name: runner.name,
    os: "linux",
    status: runner.isOnline ? "online" : "offline",
    busy: runner.showsBusy,
    ephemeral: true,
    labels: runner.labels.map((name, index) => ({ id: index + 1, name, type: "custom" })),
  };
}

export function deliveryShape(delivery: FakeDelivery): Shape {
  const isOk = delivery.status >= 200 && delivery.status < 300;
  return {
    id: delivery.id,
    guid: delivery.guid,
    delivered_at: time(delivery.at),
    redelivery: delivery.isAgain,
    duration: 0.1,
    status: isOk ? "OK" : "Invalid HTTP Response: 500",
    status_code: delivery.status,
    event: delivery.event,
    action: delivery.action,
    installation_id: 7,
    repository_id: 1,
    throttled_at: null,
  };
}

export function installationShape(api: string, org: string, now: number): Shape {
  return {
    id: 7,
    account: userShape(api, org),
    app_id: 1234,
    app_slug: "mayfly",
    target_id: 1,
    target_type: "Organization",
    repository_selection: "all",
    access_tokens_url: `${api}/app/installations/7/access_tokens`,
    repositories_url: `${api}/installation/repositories`,
    html_url: `${api}/organizations/${org}/settings/installations/7`,
    single_file_name: null,
    permissions: { actions: "read", organization_self_hosted_runners: "write" },
    events: ["workflow_job"],
    created_at: time(now),
    updated_at: time(now),
    suspended_at: null,
    suspended_by: null,
  };
}

export function groupShape(
  api: string,
  group: { id: number; name: string; public: boolean },
): Shape {
  return {
    id: group.id,
    name: group.name,
    visibility: "all",
    default: group.id === 1,
    runners_url: `${api}/orgs/acme/actions/runner-groups/${group.id}/runners`,
    inherited: false,
    allows_public_repositories: group.public,
    restricted_to_workflows: false,
    selected_workflows: [],
  };
}

/** The event about a job as it stands; `action` by its state. */
export function jobEventShape(api: string, job: FakeJob): Shape {
  const { repository } = job.run;
  const [org = ""] = repository.fullName.split("/");
  return {
    action: job.status,
    workflow_job: jobShape(api, job),
    repository: repositoryShape(api, repository),
    organization: { login: org, id: 1 },
    installation: { id: 7 },
    sender: userShape(api, "somebody"),
  };
}

export function runEventShape(api: string, run: FakeRun, action: string): Shape {
  return {
    action,
    workflow_run: runShape(api, run, action === "completed" ? "completed" : "queued"),
    repository: repositoryShape(api, run.repository),
    installation: { id: 7 },
    sender: userShape(api, "somebody"),
  };
}
