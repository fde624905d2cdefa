import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { FakeRunnerService } from "../src/forges/github/fake/runner-service.ts";
import type { FakeGithub } from "../src/forges/github/fake/server.ts";
import type { FakeRun } from "../src/forges/github/fake/shapes.ts";
import { githubManager, playGithub, skip, until } from "./github-manager.ts";
import type { Manager } from "./manager.ts";

/*
 * The whole manager as a process, its machines as processes, and rr's workflow as rr wrote it: the
 * same label, the same curl. Only GitHub and its runner program are ours.
 */

interface World {
  readonly fake: FakeGithub;
  readonly service: FakeRunnerService;
  readonly manager: Manager;
}

async function openWorld(t: TestContext, broker: string): Promise<World> {
  const fake = await playGithub(t);
  // No event ever arrives: what is told must do.
  const service = new FakeRunnerService(fake, () => {});
  const manager = await githubManager(
    t,
    fake,
    `broker:
  repositories: [acme/widget]
${broker}
  pools: { x86_64: intel, arm64: arm }
pools:
  intel: { provider: box, accept: [trusted], size: 1cpu1gb, max: 2 }
  arm: { provider: box, accept: [trusted], size: 1cpu1gb, max: 2 }
`,
  );
  return { fake, service, manager };
}

/** rr's own request. */
function curl(url: string, data: object): Promise<{ status: number; said: string }> {
  const words = ["--fail-with-body", "-s", "-X", "POST", "-H", "Content-Type: application/json"];
  return new Promise((resolve) => {
    execFile("curl", [...words, "--data", JSON.stringify(data), url], (error, said) =>
      resolve({ status: typeof error?.code === "number" ? error.code : 0, said }),
    );
  });
}

/** A run whose first job asks for machines, and whose others need it. */
function beginRun({ fake: { state } }: World): FakeRun {
  const repository = state.repository("widget");
  const run = state.run(repository, repository);
  run.hasMore = true;
  Object.assign(state.job(run, ["ubuntu-latest"]), { status: "in_progress" });
  return run;
}

async function jobsOf({
  manager,
}: World): Promise<{ id: string; name: string; labels: string[]; outcome: string | null }[]> {
  const { jobs } = (await (await manager.ask("/v1/jobs?limit=100")).json()) as {
    jobs: Awaited<ReturnType<typeof jobsOf>>;
  };
  return jobs;
}

async function machinesMade({ manager }: World): Promise<number> {
  const answer = await manager.ask("/v1/machines?limit=100");
  return ((await answer.json()) as { machines: unknown[] }).machines.length;
}

test(
  "rr's workflow borrows its machines and gives them back",
  { skip, timeout: 280_000 },
  async (t) => {
    const world = await openWorld(t, "  label: mayfly_{run}_{id}");
    const { fake, manager, service } = world;
    const { state } = fake;
    const run = beginRun(world);
    const [setup] = state.jobsOf(run);
    const label = `mayfly_${run.id}_5e0c1f0e9d1f4d0d8a7f3b1f9a3a2b4c`;
    const create = { operation: "create", architectures: ["x86_64", "arm64"], label };
    try {
      const answers = await Promise.all([curl(manager.url, create), curl(manager.url, create)]);
      for (const answer of answers) assert.deepEqual(answer, { status: 0, said: "" });
      const registered = [...state.runners.values()].map(({ labels }) => labels.toSorted());
      assert.deepEqual(registered.toSorted(byText), [
        ["arch_arm64", label],
        ["arch_x86_64", label],
      ]);

      const early = await curl(manager.url, { operation: "destroy", label });
      assert.equal(early.status, 22);
      assert.match(early.said, /^"mayfly_.*" is in use: .*\n$/);
      assert.equal(state.runners.size, 2, "somebody else cannot take them away");

      state.end(setup!, "success");
      const jobs = ["x86_64", "arm64"].map((one) => state.job(run, [label, `arch_${one}`]));
      await until("both jobs are over", () => jobs.every(({ status }) => status === "completed"));
      run.hasMore = false;
      await until("its machines are given back", async () => {
        return (await curl(manager.url, { operation: "destroy", label })).status === 0;
      });
      await until("no runner is left", () => state.runners.size === 0);
      await until(
        "no machine is left",
        () => readdirSync(join(manager.state, "providers/box/machines")).length === 0,
      );
      assert.equal(service.taken.length, 2);
      assert.equal(await machinesMade(world), 2, "one machine for each job");
      // A poll may also have shown the job that asked for them.
      const lent = async () => (await jobsOf(world)).filter(({ labels }) => labels.includes(label));
      await until("both are told to be over", async () =>
        (await lent()).every(({ outcome }) => outcome !== null),
      );
      const told = await lent();
      assert.deepEqual(told.map(({ name, outcome }) => `${name}: ${outcome}`).toSorted(), [
        `arm64 lent to acme/widget run ${run.id}: success`,
        `x86_64 lent to acme/widget run ${run.id}: success`,
      ]);
      const replayed = await curl(manager.url, create);
      assert.equal(replayed.status, 22);
      assert.match(replayed.said, /is over/);
      assert.equal(await machinesMade(world), 2);
      for (const hidden of state.secrets) assert.ok(!manager.said.includes(hidden));
    } catch (error) {
      throw new Error(`${String(error)}\n${manager.said.slice(-6000)}`, { cause: error });
    }
  },
);

test(
  "a manager killed between an order and its answer knows it again, and makes one machine",
  { skip, timeout: 280_000 },
  async (t) => {
    // rr's own labels; the run is told beside them.
    const world = await openWorld(t, "  label: rr_runner_{id}");
    const { fake, manager } = world;
    const { state } = fake;
    const run = beginRun(world);
    const label = "rr_runner_5e0c1f0e9d1f4d0d8a7f3b1f9a3a2b4c";
    const more = { repository: "acme/widget", run_id: run.id };
    const create = {
      operation: "create",
      architecture: "x86_64",
      label: `${label}_x86_64`,
      ...more,
    };
    try {
      // No machine can be registered, so the answer waits.
      const refusal = { part: "generate-jitconfig", status: 502, message: "Server Error" };
      state.faults.refusals.push(refusal);
      const cut = curl(manager.url, create);
      await until("its machine is up", async () => {
        const answer = await manager.ask("/v1/machines?limit=100");
        const { machines } = (await answer.json()) as { machines: { state: string }[] };
        return machines.some(({ state: is }) => is === "up");
      });
      await manager.end("SIGKILL");
      assert.notEqual((await cut).status, 0, "the connection broke");
      state.faults.refusals.pop();
      await manager.start();
      const again = await curl(manager.url, create);
      assert.deepEqual(again, { status: 0, said: "" });
      assert.deepEqual(
        [...state.runners.values()].map(({ labels }) => labels),
        [[`${label}_x86_64`]],
      );
      assert.equal((await jobsOf(world)).filter(({ name }) => name.includes("lent")).length, 1);
      assert.equal(await machinesMade(world), 1);

      // Its run is cancelled before any job came for it.
      run.hasMore = false;
      for (const job of state.jobsOf(run)) state.end(job, "cancelled");
      const destroy = { operation: "destroy", labels: [`${label}_x86_64`] };
      await until("it is given back", async () => (await curl(manager.url, destroy)).status === 0);
      await until("no runner is left", () => state.runners.size === 0);
      await until(
        "no machine is left",
        () => readdirSync(join(manager.state, "providers/box/machines")).length === 0,
      );
    } catch (error) {
      throw new Error(`${String(error)}\n${manager.said.slice(-6000)}`, { cause: error });
    }
  },
);

function byText(a: unknown, b: unknown): number {
  return String(a) < String(b) ? -1 : 1;
}
