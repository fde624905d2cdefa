import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { FakeGithub } from "../src/forges/github/fake/server.ts";
import { Amazon, motoForTests, type Call } from "../src/providers/ec2/testing.ts";
import { Manager } from "./manager.ts";
import { until } from "./until.ts";

/*
 * The whole manager as a process that is killed at the worst moments, its machines as processes that
 * run their own user data; moto stands for EC2.
 */

const moto = await motoForTests();
const skip = typeof moto === "string" ? moto : false;

interface Seen {
  readonly id: string;
  readonly state: string;
  readonly outcome: string | null;
}

interface SeenMachine {
  readonly name: string;
  readonly state: string;
  readonly claimedAt: number;
  readonly endedAt: number | null;
}

describe("a manager with machines of EC2", { skip }, () => {
  let amazon: Amazon;
  let folder: string;
  let manager: Manager;

  before(async () => {
    amazon = await Amazon.start((moto as { path: string }).path);
  });
  after(() => amazon.close());

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "mayfly-ec2-"));
    writeFileSync(join(folder, "identity.pem"), amazon.certificate.reveal());
    amazon.boots = true;
    amazon.calls.length = 0;
  });
  afterEach(async () => {
    amazon.fault = () => undefined;
    await manager.end("SIGKILL");
    assert.deepEqual(await living(), [], "instances left");
    manager.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  const provider = () => `providers:
  aws:
    ec2:
      region: us-east-1
      subnets: [${amazon.subnets.slice(0, 2).join(", ")}]
      securityGroups: [${amazon.securityGroup}]
      types: [c7i.large]
      image: ${amazon.image}
      endpoint: ${amazon.url}
      identityCertificate: file:${join(folder, "identity.pem")}
      runsPerSecond: 1000
      readsPerSecond: 1000
      endsPerSecond: 1000
`;
  async function started(): Promise<void> {
    const pool = "pools: { small: { provider: aws, size: 1cpu1gb, max: 2, boot: 10m, idle: 1s } }";
    manager = await Manager.create(`${provider()}${pool}\n`);
    await manager.start();
  }

  /** One for each machine: what the next start asks for again has the same token. */
  const launches = (): Call[] => {
    const calls = amazon.calls.filter(({ action }) => action === "RunInstances");
    const byToken = Map.groupBy(calls, ({ params }) => params.get("ClientToken"));
    return [...byToken.values()].map(([first]) => first!);
  };
  const isSpot = ({ params }: Call) => params.get("InstanceMarketOptions.MarketType") === "spot";
  /** The installation's own instances that are not over. */
  async function living(): Promise<string[]> {
    const { params } = launches()[0] ?? { params: new URLSearchParams() };
    const key = [...params].find(([, value]) => value === "mayfly:installation")?.[0] ?? "";
    return amazon.living(params.get(key.replace(/Key$/, "Value")) ?? "none");
  }
  async function submit(script: string): Promise<string> {
    const job = { repository: "a", source: { kind: "none" }, command: ["sh", "-c", script] };
    return ((await (await manager.ask("/v1/jobs", job)).json()) as Seen).id;
  }
  const ended = (id: string): Promise<Seen> =>
    until(`${id} ended`, async () => {
      const seen = (await (await manager.ask(`/v1/jobs/${id}`)).json()) as Seen;
      return seen.state === "ended" ? seen : null;
    });
  async function machines(): Promise<readonly SeenMachine[]> {
    const answer = await manager.ask("/v1/machines");
    return ((await answer.json()) as { machines: SeenMachine[] }).machines;
  }
  /** No instance, and none that is still to be launched. */
  const nothingLeft = () =>
    until("the end of its instances", async () => {
      const isOver = (await machines()).every(({ state }) => state === "gone");
      return isOver && (await living()).length === 0 ? true : null;
    });

  for (const moment of ["before the answer", "after it"] as const) {
    it(`takes over what it launched when it is killed ${moment}`, async () => {
      await started();
      const dead = Promise.withResolvers<unknown>();
      amazon.fault = ({ action }) => {
        if (action !== "RunInstances" || moment === "after it") return undefined;
        manager.end("SIGKILL").then(dead.resolve, dead.reject);
        return "lost";
      };
      // Its job does not end before we have looked.
      const go = join(folder, "go");
      const id = await submit(`until [ -e ${go} ]; do sleep 0.1; done`);
      const [made] = await until("an instance", async () => {
        const all = await living();
        return all.length === 0 ? null : all;
      });
      if (moment === "after it") dead.resolve(await manager.end("SIGKILL"));
      await dead.promise;
      amazon.fault = () => undefined;
      assert.deepEqual(await living(), [made], "the machine boots, and waits for a manager");
      await manager.start();
      writeFileSync(go, "");
      assert.equal((await ended(id)).outcome, "success");
      assert.equal(launches().length, 1);
      await nothingLeft();
    });
  }

  it("ends what it launched when it comes back too late for it", async () => {
    await started();
    amazon.boots = false;
    const dead = Promise.withResolvers<unknown>();
    amazon.fault = ({ action }) => {
      if (action !== "RunInstances") return undefined;
      manager.end("SIGKILL").then(dead.resolve, dead.reject);
      return "lost";
    };
    const id = await submit("true");
    await dead.promise;
    const [stale] = await until("an instance", async () => {
      const all = await living();
      return all.length === 0 ? null : all;
    });
    // An hour goes by.
    const db = new DatabaseSync(join(manager.state, "mayfly.db"));
    const { changes } = db.prepare("update runners set claimed_at = claimed_at - 3600000").run();
    db.close();
    assert.equal(changes, 1);
    amazon.fault = () => undefined;
    amazon.boots = true;
    await manager.start();
    await until("its end", async () => ((await living()).includes(stale!) ? null : true));
    assert.equal((await ended(id)).outcome, "success", "another machine was made for the job");
    await nothingLeft();
  });

  it("runs a job again on demand whose spot machine was taken back, though killed meanwhile", async () => {
    await started();
    // Only the first attempt waits: an on-demand machine is given no notice to look for.
    const flag = join(folder, "first");
    const id = await submit(`if mkdir ${flag}; then sleep 600; fi`);
    const [made] = await until("its job", async () => {
      const { state } = (await (await manager.ask(`/v1/jobs/${id}`)).json()) as Seen;
      return state === "started" && existsSync(flag) ? living() : null;
    });
    amazon.notice(made!);
    assert.equal((await ended(id)).outcome, "lost");
    await manager.end("SIGKILL");
    await manager.start();
    const again = await until("its next attempt", async () => {
      const answer = await manager.ask(`/v1/jobs/${id}.2`);
      return answer.ok ? `${id}.2` : null;
    });
    assert.equal((await ended(again)).outcome, "success");
    assert.deepEqual(launches().map(isSpot), [true, false]);
    const why = await (await manager.ask(`/v1/why/${id}`)).text();
    assert.match(why, /its machine was taken back; it is to be run again once, on demand/);
    assert.equal((await manager.ask(`/v1/jobs/${id}.3`)).status, 404);
    await nothingLeft();
  });

  it("ends the instance when its registration fails, and says why", async () => {
    const now = Date.now;
    const names = { org: "acme", token: "a token", secret: "a secret" };
    const fake = await FakeGithub.start({ ...names, now, keyNow: now });
    try {
      fake.state.faults.refusals.push({
        part: "/generate-jitconfig",
        status: 403,
        message: "Resource not accessible by personal access token",
      });
      const run = fake.state.run(fake.state.repository("widget"), null);
      const job = fake.state.job(run, ["linux"]);
      for (const name of ["token", "secret"] as const) {
        writeFileSync(join(folder, name), names[name], { mode: 0o600 });
      }
      const path = (name: string): string => `"file:${join(folder, name)}"`;
      manager = await Manager.create(`${provider()}forges:
  acme: { github: { url: "${fake.url}", token: ${path("token")}, secret: ${path("secret")} } }
pools:
  small: { forge: acme, provider: aws, size: 1cpu1gb, max: 1, labels: [linux], accept: [trusted, fork] }
`);
      await manager.start();
      await until("an instance", async () => ((await living()).length > 0 ? true : null));
      const runner = await until("its end", async () => {
        return (await machines()).find(({ state }) => state === "gone") ?? null;
      });
      const why = await (await manager.ask(`/v1/why/${runner.name}`)).text();
      assert.match(why, /gave .* no registration: .*lacks a permission/);
      // The pool waits before it pays for the next.
      for (const { name, claimedAt } of await machines()) {
        assert.ok(name === runner.name || claimedAt >= runner.endedAt! + 5_000);
      }
      // Nobody wants a machine from here on.
      fake.state.end(job, "cancelled");
      const { headers, body } = fake.state.jobEvent(job);
      const taken = await fetch(`${manager.url}/v1/forges/acme/events`, {
        method: "POST",
        headers: { ...(headers as Record<string, string>), connection: "close" },
        body: Buffer.from(body),
      });
      assert.ok(taken.ok);
      await until("the end of its wish", async () => {
        const { jobs } = (await (await manager.ask("/v1/jobs")).json()) as { jobs: Seen[] };
        return jobs.every(({ state }) => state === "ended") ? true : null;
      });
      await nothingLeft();
    } finally {
      await fake.close();
    }
  });
});
