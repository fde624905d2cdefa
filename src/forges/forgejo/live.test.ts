import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { sampleRunner } from "../../domain/samples.ts";
import { fakeContext, fakeInstallation, fakeSecret } from "../fake-context.ts";
import type { Forge } from "../forge.ts";
import { assertFields, assertRoutes, readSwagger } from "../live-swagger.ts";
import { jobAnswer, registeredAnswer, repositoryAnswer, runAnswer } from "./answers.ts";
import { FakeForgejo, fakeShapes } from "./fake/forgejo.ts";
import { openForgejo } from "./forgejo.ts";

const url = (process.env["MAYFLY_LIVE_FORGEJO_URL"] ?? "").replace(/\/$/, "");
const token = process.env["MAYFLY_LIVE_FORGEJO_TOKEN"] ?? "";
const skip =
  url !== "" && token !== ""
    ? false
    : "needs a Forgejo server: MAYFLY_LIVE_FORGEJO_URL, and MAYFLY_LIVE_FORGEJO_TOKEN";
const never = new AbortController().signal;

describe("a real Forgejo's description of itself", { skip }, () => {
  it("has the calls that are made", async () => {
    const scopes = ["orgs/{org}", "repos/{owner}/{repo}", "user", "admin"];
    assertRoutes(await readSwagger(url), [
      ...scopes.flatMap((scope) => [
        `GET /${scope}/actions/runners/jobs`,
        `GET /${scope}/actions/runners`,
        `POST /${scope}/actions/runners`,
        `DELETE /${scope}/actions/runners/{id}`,
      ]),
      "GET /repositories/{id}",
      "GET /repos/{owner}/{repo}/actions/runs",
      "GET /repos/{owner}/{repo}/actions/runs/{id}",
    ]);
  });

  it("has the fields that are read, and those that are played", async () => {
    const swagger = await readSwagger(url);
    const fake = new FakeForgejo({ token, secret: "", scope: "/user", now: Date.now });
    const { job, run, runner } = fakeShapes(fake);
    const fields: readonly (readonly [string, object])[] = [
      ["ActionRunJob", jobAnswer.shape],
      ["ActionRunJob", job],
      ["ActionRun", runAnswer.shape],
      ["ActionRun", run],
      ["ActionRunner", runner],
      ["Repository", repositoryAnswer.shape],
      ["RegisterRunnerResponse", registeredAnswer.shape],
      ["RegisterRunnerOptions", { name: "", description: "", ephemeral: true }],
    ];
    for (const [definition, object] of fields) {
      assertFields(swagger, definition, Object.keys(object));
    }
  });
});

describe("a real Forgejo, for the token's user", { skip }, () => {
  const open = (): Forge =>
    openForgejo(
      { url, scope: "@me", token: fakeSecret(token), programs: {} },
      fakeContext(Date.now),
    );

  it("shows its jobs and runners", async () => {
    const forge = open();
    for (const job of await forge.poll(never)) assert.match(job.externalId, /^\d+-\d+$/);
    await forge.registrations(never);
  });

  it("registers nothing while no job waits, and has nothing to remove", async () => {
    const forge = open();
    const name = `${fakeInstallation}-live-1`;
    const runner = sampleRunner({ name, labels: ["mayfly-live-that-nobody-asks-for"] });
    const context = { accept: ["trusted" as const], jobDeadlineSeconds: 60 };
    assert.equal(await forge.handOver?.(runner, context, never), null);
    assert.equal(await forge.remove(name, never), "gone");
  });

  it("knows no job that there never was", async () => {
    const job = { externalId: "999999999-999999999", attempt: 1, repository: "nobody/nothing" };
    assert.equal(await open().find?.(job, never), null);
  });
});
