import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FakeRunnerService } from "../src/forges/github/fake/runner-service.ts";
import type { FakeJob } from "../src/forges/github/fake/shapes.ts";
import { githubManager, playGithub, skip, until } from "./github-manager.ts";

const labels = ["self-hosted", "linux"];

/** Which of the events, by their number, are lost or come twice. */
const isLost = (n: number): boolean => n % 4 === 1;
const isDouble = (n: number): boolean => n % 3 === 0;

test(
  "GitHub's jobs run on machines of their own, though events are lost and doubled",
  {
    skip,
    timeout: 280_000,
  },
  async (t) => {
    const fake = await playGithub(t);
    const { state } = fake;
    // GitHub's flag is late.
    state.faults.staleBusy = true;

    let address = "";
    let events = 0;
    const refused: number[] = [];
    const tell = (job: FakeJob): void => {
      const n = events++;
      for (let times = isLost(n) ? 0 : isDouble(n) ? 2 : 1; times > 0; times--) {
        const { headers, body } = state.jobEvent(job);
        const url = `${address}/v1/forges/acme/events`;
        const sent = fetch(url, {
          method: "POST",
          // A connection of its own: one that was kept may be closed just as it is used again.
          headers: { ...(headers as Record<string, string>), connection: "close" },
          body: Buffer.from(body),
        });
        sent.then(
          ({ status }) => status >= 300 && refused.push(status),
          () => refused.push(0),
        );
      }
    };
    const service = new FakeRunnerService(fake, tell);
    const manager = await githubManager(
      t,
      fake,
      `pools:
  small:
    forge: acme
    labels: [self-hosted, linux]
    provider: box
    accept: [trusted]
    size: 1cpu1gb
    max: 4
    idle: 15s
`,
    );
    address = manager.url;

    const repository = state.repository("widget");
    const stranger = state.repository("stranger/widget");
    const forked = state.job(state.run(repository, stranger, "pull_request"), [
      "self-hosted",
      "linux",
      "forked",
    ]);
    tell(forked);
    const jobs = Array.from({ length: 8 }, () =>
      state.job(state.run(repository, repository, "push"), labels),
    );
    for (const job of jobs) tell(job);
    // One that is taken back while it waits.
    const cancelled = state.job(state.run(repository, repository, "push"), [...labels, "rare"]);
    tell(cancelled);
    state.end(cancelled, "cancelled");
    tell(cancelled);

    try {
      await until("all jobs are over", () => jobs.every(({ status }) => status === "completed"));
      await until("no runner is left at GitHub", () => state.runners.size === 0);
      await until(
        "no machine is left",
        () => readdirSync(join(manager.state, "providers/box/machines")).length === 0,
      );
    } catch (error) {
      throw new Error(`${String(error)}\n${manager.said.slice(-6000)}`, { cause: error });
    }
    for (const job of jobs) assert.equal(job.conclusion, "success");
    assert.equal(new Set(service.taken.map(({ job }) => job)).size, jobs.length);
    assert.equal(new Set(service.taken.map(({ runner }) => runner)).size, service.taken.length);
    assert.equal(forked.status, "queued", "nobody accepts a stranger's code here");
    assert.deepEqual(refused, [], "every event was taken");
    const told = (await (await manager.ask("/v1/jobs?limit=100")).json()) as {
      jobs: { id: string; state: string; outcome: string | null; pool: string | null }[];
    };
    for (const { id } of jobs) {
      await until(`job ${id} is over here too`, async () => {
        const answer = await manager.ask(`/v1/jobs/acme-${id}`);
        return ((await answer.json()) as { outcome: string | null }).outcome === "success";
      });
    }
    assert.equal(told.jobs.find(({ id }) => id === `acme-${forked.id}`)?.pool, null);
    for (const hidden of state.secrets)
      assert.ok(!manager.said.includes(hidden), "a secret in a log");
  },
);
