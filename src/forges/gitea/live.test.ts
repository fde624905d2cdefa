import { describe, it } from "node:test";
import { forgeConformance } from "../conformance.ts";
import { assertFields, assertRoutes, readSwagger } from "../live-swagger.ts";
import {
  jobAnswer,
  jobsAnswer,
  pullAnswer,
  listedRun,
  runAnswer,
  runnersAnswer,
  runsAnswer,
} from "./answers.ts";
import { jobShape, pullShape, runnerShape, runShape } from "./fake/shapes.ts";
import { FakeGiteaState } from "./fake/state.ts";
import { LiveGitea } from "./conformance-live.ts";

const url = (process.env["MAYFLY_LIVE_GITEA_URL"] ?? "").replace(/\/$/, "");
const token = process.env["MAYFLY_LIVE_GITEA_TOKEN"] ?? "";
const skip =
  url !== "" && token !== ""
    ? false
    : "needs a Gitea server: MAYFLY_LIVE_GITEA_URL, and MAYFLY_LIVE_GITEA_TOKEN of an administrator";

forgeConformance({
  name: "Gitea, a real one",
  open: () => LiveGitea.open(url, token),
  labels: ["mayfly-live", "x64"],
  matches: [[["linux"], ["linux", "x64"], true]],
  signatureHeader: "x-gitea-signature",
  skip,
});

describe("a real Gitea's description of itself", { skip }, () => {
  const routes = ["orgs/{org}", "repos/{owner}/{repo}", "user", "admin"].flatMap((scope) => [
    `GET /${scope}/actions/jobs`,
    `GET /${scope}/actions/runners`,
    `POST /${scope}/actions/runners/registration-token`,
    `DELETE /${scope}/actions/runners/{id}`,
    `PATCH /${scope}/actions/runners/{id}`,
  ]);

  it("has the calls that are made", async () => {
    assertRoutes(await readSwagger(url), [
      ...routes,
      "GET /version",
      "GET /repos/{owner}/{repo}/actions/jobs/{id}",
      "GET /repos/{owner}/{repo}/actions/runs",
      "GET /repos/{owner}/{repo}/actions/runs/{id}",
      "GET /repos/{owner}/{repo}/actions/runs/{id}/jobs",
      "GET /repos/{owner}/{repo}/pulls/{index}",
    ]);
  });

  it("has the fields that are read, and those that are played", async () => {
    const swagger = await readSwagger(url);
    const state = new FakeGiteaState({ version: "1.27.0", now: Date.now });
    const run = state.addRun({ repository: "a/b", event: "push", ref: "refs/heads/main" });
    const job = state.addJob(run, []);
    const runner = state.register("r", [], true);
    state.start(job, runner);
    const fields: readonly (readonly [string, object])[] = [
      ["ActionWorkflowJob", jobAnswer.shape],
      ["ActionWorkflowJob", jobShape(state, url, job)],
      ["ActionWorkflowJobsResponse", jobsAnswer.shape],
      ["ActionWorkflowRun", runAnswer.shape],
      ["ActionWorkflowRun", listedRun.shape],
      ["ActionWorkflowRunsResponse", runsAnswer.shape],
      ["ActionWorkflowRun", runShape(state, url, run)],
      ["ActionRunnersResponse", runnersAnswer.shape],
      ["ActionRunner", runnerShape(runner)],
      ["PullRequest", pullAnswer.shape],
      ["PullRequest", pullShape(state.addPull("fork"))],
      ["PRBranchInfo", { label: "", ref: "", repo_id: 0, repo: {} }],
      ["ServerVersion", { version: "" }],
    ];
    for (const [definition, object] of fields) {
      assertFields(swagger, definition, Object.keys(object));
    }
  });
});
