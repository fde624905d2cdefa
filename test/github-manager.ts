import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fakeRunnerScript } from "../src/forges/github/fake/runner-service.ts";
import { FakeGithub } from "../src/forges/github/fake/server.ts";
import { Manager } from "./manager.ts";
import { runnerArchive } from "./runner-archive.ts";
import { type Look, until as waitUntil } from "./until.ts";

/*
 * The whole manager as a process, its machines as processes, the runner's start script and hook as
 * they are; only GitHub and its runner program are ours.
 */

const lacking = ["curl", "perl", "tar", "bash"].find(
  (program) => spawnSync(program, ["--version"]).status !== 0,
);
/** For `skip` of such a test. */
export const skip = lacking === undefined ? false : `needs ${lacking}`;
const secret = "the webhook's secret";
const token = "github_pat_not_to_be_seen";

export const until = <T>(what: string, look: Look<T>): Promise<T> =>
  waitUntil(what, look, { withinMs: 150_000 });

/** A GitHub that is played. It ends with the test. */
export async function playGithub(t: TestContext): Promise<FakeGithub> {
  const { now } = Date;
  const fake = await FakeGithub.start({ org: "acme", now, keyNow: now, token, secret });
  t.after(() => fake.close());
  return fake;
}

/**
 * A manager, started, that serves `fake` as its forge `acme`, with a provider `box` of processes;
 * `rest` is the rest of its configuration. It ends with the test.
 */
export async function githubManager(
  t: TestContext,
  fake: FakeGithub,
  rest: string,
): Promise<Manager> {
  const folder = mkdtempSync(join(tmpdir(), "mayfly-github-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const { url, sha256 } = await runnerArchive(t, folder, fakeRunnerScript(fake.origin));
  const kinds = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"];
  const programs = kinds.map((kind) => `        ${kind}: { url: "${url}", sha256: ${sha256} }`);
  for (const [name, text] of Object.entries({ token, secret })) {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
  }
  const manager = await Manager.create(`forges:
  acme:
    github:
      url: ${fake.url}
      token: file:${join(folder, "token")}
      secret: file:${join(folder, "secret")}
      programs:
${programs.join("\n")}
providers:
  box:
    host: {}
${rest}`);
  t.after(async () => {
    await manager.end("SIGKILL");
    manager.remove();
  });
  await manager.start();
  return manager;
}
