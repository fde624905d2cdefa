import { randomBytes } from "node:crypto";
import {
  annotationShape,
  deliveryShape,
  groupShape,
  installationShape,
  jobShape,
  repositoryShape,
  runnerShape,
  runShape,
  type FakeJob,
  type FakeRun,
} from "./shapes.ts";
import type { FakeState } from "./state.ts";

export interface FakeAnswer {
  readonly status: number;
  readonly body?: unknown;
  /** The path in GitHub's OpenAPI document that this answers. */
  readonly path?: string;
}

export interface FakeCall {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: Record<string, unknown>;
}

type Handler = (state: FakeState, parts: readonly string[], call: FakeCall) => FakeAnswer;

interface Route {
  readonly method: string;
  /** As the OpenAPI document writes it. */
  readonly path: string;
  readonly by: "app" | "installation" | "anybody";
  readonly handle: Handler;
}

const missing: FakeAnswer = { status: 404, body: { message: "Not Found" } };

const routes: readonly Route[] = [
  route(
    "GET /meta",
    (state) => ok({ verifiable_password_authentication: false, hooks: hooks(state) }),
    "anybody",
  ),
  route(
    "GET /orgs/{org}/installation",
    (state, [org = ""]) => {
      return org === state.settings.org
        ? ok(installationShape(state.api, org, state.settings.now()))
        : missing;
    },
    "app",
  ),
  route(
    "POST /app/installations/{installation_id}/access_tokens",
    (state) => {
      const token = `ghs_${randomBytes(18).toString("hex")}`;
      state.tokens.add(token);
      state.secrets.push(token);
      const expires = new Date(state.settings.now() + 3600_000).toISOString();
      const permissions = { actions: "read", organization_self_hosted_runners: "write" };
      return {
        status: 201,
        body: { token, expires_at: expires, permissions, repository_selection: "all" },
      };
    },
    "app",
  ),
  route(
    "GET /app/hook/deliveries",
    (state) => {
      return ok([...state.deliveries].reverse().slice(0, 100).map(deliveryShape));
    },
    "app",
  ),
  route(
    "POST /app/hook/deliveries/{delivery_id}/attempts",
    (state, [id]) => {
      state.redelivered.push(Number(id));
      return { status: 202, body: {} };
    },
    "app",
  ),
  route("GET /orgs/{org}/repos", (state, _parts, { query }) => {
    const all = [...state.repositories.values()].filter((each) =>
      each.fullName.startsWith(`${state.settings.org}/`),
    );
    const sorted = all.sort((a, b) => b.pushedAt - a.pushedAt || a.id - b.id);
    return ok(page(sorted, query).map((each) => repositoryShape(state.api, each)));
  }),
  route("GET /repos/{owner}/{repo}/actions/runs", (state, parts, { query }) => {
    const runs = runsOf(state, parts).filter((run) => {
      const status = query.get("status");
      return status === null || state.statusOf(run) === status;
    });
    const shown = page(runs, query).map((run) => runShape(state.api, run, state.statusOf(run)));
    return ok({ total_count: runs.length, workflow_runs: shown });
  }),
  route("GET /repos/{owner}/{repo}/actions/runs/{run_id}", (state, [owner, repo, id]) => {
    const run = state.runs.get(Number(id));
    if (run === undefined || run.repository.fullName !== `${owner}/${repo}`) return missing;
    return ok(runShape(state.api, run, state.statusOf(run)));
  }),
  route("GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs", (state, [, , id], { query }) => {
    const run = state.runs.get(Number(id));
    if (run === undefined) return missing;
    const jobs = state.jobsOf(run);
    const shown = page(jobs, query).map((job) => jobShape(state.api, job));
    return ok({ total_count: jobs.length, jobs: shown });
  }),
  route("GET /repos/{owner}/{repo}/actions/jobs/{job_id}", (state, [, , id]) => {
    const job = state.jobs.get(Number(id));
    return job === undefined ? missing : ok(jobShape(state.api, job));
  }),
  route("POST /repos/{owner}/{repo}/actions/jobs/{job_id}/rerun", (state, [, , id]) => {
    const job = state.jobs.get(Number(id));
    return job === undefined ? missing : rerun(state, job.run, [job]);
  }),
  route("POST /repos/{owner}/{repo}/actions/runs/{run_id}/rerun-failed-jobs", (state, [, , id]) => {
    const run = state.runs.get(Number(id));
    if (run === undefined) return missing;
    const failed = state.jobsOf(run).filter(({ conclusion }) => conclusion !== "success");
    return rerun(state, run, failed);
  }),
  route("GET /repos/{owner}/{repo}/check-runs/{check_run_id}/annotations", (state, [, , id]) => {
    const job = state.jobs.get(Number(id));
    return job === undefined ? missing : ok(job.annotations.map(annotationShape));
  }),
  route("GET /orgs/{org}/actions/runner-groups", (state, _parts, { query }) => {
    const groups = page(state.groups, query).map((group) => groupShape(state.api, group));
    return ok({ total_count: state.groups.length, runner_groups: groups });
  }),
  ...["/orgs/{org}", "/repos/{owner}/{repo}"].flatMap(runnerRoutes),
];

function runnerRoutes(scope: string): Route[] {
  const base = `${scope}/actions/runners`;
  return [
    route(`GET ${base}`, (state, _parts, { query }) => {
      const name = query.get("name");
      const all = [...state.runners.values()].filter((each) => name === null || each.name === name);
      const from = state.faults.shiftPages && Number(query.get("page") ?? 1) > 1 ? 1 : 0;
      const shown = page(all.slice(from), query).map(runnerShape);
      return ok({ total_count: all.length, runners: shown });
    }),
    route(`POST ${base}/generate-jitconfig`, (state, _parts, { body }) => register(state, body)),
    route(`GET ${base}/{runner_id}`, (state, parts) => {
      const runner = state.runners.get(Number(parts.at(-1)));
      return runner === undefined ? missing : ok(runnerShape(runner));
    }),
    route(`DELETE ${base}/{runner_id}`, (state, parts) => {
      const runner = state.runners.get(Number(parts.at(-1)));
      if (runner === undefined) return missing;
      if (runner.isBusy && !state.faults.removesBusy) {
        const message = `Runner ${runner.name} is currently running a job and cannot be deleted.`;
        return { status: 422, body: { message } };
      }
      state.runners.delete(runner.id);
      return { status: 204 };
    }),
  ];
}

function rerun(state: FakeState, run: FakeRun, jobs: readonly FakeJob[]): FakeAnswer {
  const message = "The workflow run containing this job is already running";
  if (state.statusOf(run) !== "completed") return { status: 403, body: { message } };
  state.again(run, jobs);
  return { status: 201, body: {} };
}

function register(state: FakeState, body: Record<string, unknown>): FakeAnswer {
  const { name, runner_group_id: group, labels } = body;
  const isGood =
    typeof name === "string" &&
    typeof group === "number" &&
    Array.isArray(labels) &&
    labels.length > 0 &&
    labels.length <= 100;
  if (!isGood) return { status: 422, body: { message: "Validation Failed" } };
  if ([...state.runners.values()].some((each) => each.name === name)) {
    return {
      status: 409,
      body: { message: "Already exists - A runner exists with the same name" },
    };
  }
  const runner = {
    id: state.id(),
    name,
    labels: labels.map(String),
    group,
    isOnline: false,
    showsBusy: false,
    isBusy: false,
  };
  state.runners.set(runner.id, runner);
  const config = randomBytes(30).toString("base64");
  state.secrets.push(config);
  state.configs.set(config, runner.id);
  return { status: 201, body: { runner: runnerShape(runner), encoded_jit_config: config } };
}

/** Answers one call; null: there is no such route. Who asks was looked at before. */
export function answer(
  state: FakeState,
  call: FakeCall,
  by: "app" | "installation" | "nobody",
): FakeAnswer {
  for (const each of routes) {
    if (each.method !== call.method) continue;
    const parts = match(each.path, call.path);
    if (parts === null) continue;
    if (each.by !== "anybody" && each.by !== by) {
      return {
        status: 401,
        body: {
          message: by === "nobody" ? "Bad credentials" : "A JSON web token could not be decoded",
        },
      };
    }
    return { ...each.handle(state, parts, call), path: each.path };
  }
  return missing;
}

function route(text: string, handle: Handler, by: Route["by"] = "installation"): Route {
  const [method = "", path = ""] = text.split(" ");
  return { method, path, by, handle };
}

function match(pattern: string, path: string): string[] | null {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  const parts: string[] = [];
  for (const [index, part] of wanted.entries()) {
    const value = decodeURIComponent(given[index] ?? "");
    if (part.startsWith("{")) parts.push(value);
    else if (part !== value) return null;
  }
  return parts;
}

function runsOf(state: FakeState, [owner, repo]: readonly string[]): FakeRun[] {
  const runs = [...state.runs.values()];
  return runs.filter(({ repository }) => repository.fullName === `${owner}/${repo}`).reverse();
}

function page<T>(all: readonly T[], query: URLSearchParams): T[] {
  const size = Math.min(100, Number(query.get("per_page") ?? 30));
  const number = Math.max(1, Number(query.get("page") ?? 1));
  return all.slice((number - 1) * size, number * size);
}

function hooks(_state: FakeState): string[] {
  return ["192.0.2.0/24", "2001:db8::/32"];
}

function ok(body: unknown): FakeAnswer {
  return { status: 200, body };
}
