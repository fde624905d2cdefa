import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, it } from "node:test";
import { sampleRunner } from "../../domain/samples.ts";
import type { RunnerOrders } from "../forge.ts";
import type { RunnerPrograms } from "../runner-program.ts";
import { scriptPlace, type ScriptPlace } from "../start-script.ts";
import { ordersFor } from "./orders.ts";

function orders(
  programs: RunnerPrograms = {},
  accept: "fork" | "trusted" = "fork",
  oldRunners = false,
): RunnerOrders {
  return ordersFor({
    url: "https://git.example.com",
    runner: sampleRunner({ name: "k7m2q-p-1", labels: ["ubuntu-latest", "pool:gpu"] }),
    registered: { id: 42, uuid: "a-uuid", token: "the-token" },
    context: { accept: ["trusted", accept], jobDeadlineSeconds: 3600 },
    programs,
    oldRunners,
  });
}

/** Reads what the real one reads, in its order, and tells what is to be seen by then. */
const program = `#!/bin/sh
[ "$1" != --version ] || { echo "gitea-runner version v3.3.0"; exit; }
echo "called $1 $2"
config=$(cat "$3")
file=$(echo "$config" | sed -n 's/^  file: "\\(.*\\)"/\\1/p')
echo "read $(cat "$file")"
until [ ! -e "$(dirname "$file")" ]; do sleep 0.05; done
echo "config $config"
echo "left $(cd "$(dirname "$0")/../files" && find . -type f | sort | tr '\\n' ' ')"
echo "here $(pwd) umask $(umask) vars $(env | grep -c -e TOKEN -e the-token -e MAYFLY_)"
exit 7
`;

describe("the start script of Gitea's runner", () => {
  let place: ScriptPlace;
  beforeEach(() => {
    place = scriptPlace();
  });
  afterEach(() => place.close());

  for (const name of ["gitea-runner", "act_runner"]) {
    it(`runs ${name} with a registration that no file holds any more`, async () => {
      place.program(name, program);
      const { status, output } = await place.run(orders());
      assert.equal(status, 7, output);
      assert.match(output, /^called daemon -c$/m);
      const [, told = "{}"] = /^read (.*)$/m.exec(output) ?? [];
      assert.deepEqual(JSON.parse(told), {
        id: 42,
        uuid: "a-uuid",
        name: "k7m2q-p-1",
        token: "the-token",
        address: "https://git.example.com",
        labels: ["ubuntu-latest:host", "pool:gpu"],
        ephemeral: true,
      });
      assert.match(output, /^left \.\/start\.sh $/m);
      assert.ok(output.includes(`here ${place.work} umask 0022 vars 1`), output);
      assert.match(output, /cache:\n {2}enabled: false/);
      assert.match(output, /timeout: 3600s/);
      assert.match(output, /job_started: ""/);
      assert.deepEqual(readdirSync(place.files), ["start.sh"]);
    });
  }

  it("sets the hook where the pool takes no forks", async () => {
    place.program("gitea-runner", program);
    const { output } = await place.run(orders({}, "trusted"));
    assert.ok(output.includes(`job_started: "${place.files}/refuse-forks.pl"`));
    assert.ok(!output.includes("mayfly:"), output);
  });

  for (const version of ["v0.2.13", "v2.3.0", "1.0.8", "dev", "vNext"]) {
    it(`does not let a program of ${version} serve such a pool, unless told to`, async () => {
      place.program("act_runner", program.replace("v3.3.0", version));
      const refused = await place.run(orders({}, "trusted"));
      assert.notEqual(refused.status, 7);
      assert.match(refused.output, /cannot refuse jobs of forks: use a newer one/);
      assert.ok(!refused.output.includes("called daemon"));
      place.close();
      place = scriptPlace();
      place.program("act_runner", program.replace("v3.3.0", version));
      const told = await place.run(orders({}, "trusted", true));
      assert.equal(told.status, 7, told.output);
      assert.match(told.output, /^mayfly: .*cannot refuse jobs of forks$/m);
    });
  }

  it("gets the program from its mirror, when the digest is right", async () => {
    const server = createServer((_, response) => response.end(program));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/gitea-runner`;
      const sha256 = createHash("sha256").update(program).digest("hex");
      const mirror = (digest: string): RunnerPrograms =>
        Object.fromEntries(
          ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"].map((machine) => [
            machine,
            { url, sha256: digest },
          ]),
        );
      const wrong = await place.run(orders(mirror("0".repeat(64))));
      assert.notEqual(wrong.status, 0);
      assert.match(wrong.output, /is not what the configuration's sha256 says/);
      assert.ok(!wrong.output.includes("called daemon"));
      place.close();
      place = scriptPlace();
      const right = await place.run(orders(mirror(sha256)));
      assert.equal(right.status, 7, right.output);
    } finally {
      server.close();
    }
  });

  it("says what is missing", async () => {
    const { status, output } = await place.run(orders());
    assert.notEqual(status, 0);
    assert.match(output, /mayfly: no gitea-runner in the image/);
    assert.ok(!output.includes("the-token"));
  });
});

describe("the hook that refuses forks", () => {
  const hook = fileURLToPath(new URL("./refuse-forks.pl", import.meta.url));
  let place: ScriptPlace;
  beforeEach(() => {
    place = scriptPlace();
  });
  afterEach(() => place.close());

  const judge = (name: string, event: unknown): number | null => {
    const path = join(place.work, "event.json");
    writeFileSync(path, typeof event === "string" ? event : JSON.stringify(event, null, 1));
    const environment = { GITHUB_EVENT_NAME: name, GITHUB_EVENT_PATH: path };
    return spawnSync("perl", [hook], { env: { PATH: "/usr/bin:/bin", ...environment } }).status;
  };
  const pull = (
    head: object | null,
    base: object = { label: "main", repo: { id: 1 } },
  ): object => ({
    number: 1,
    pull_request: { title: 'a "quoted" \\ title: {"head":{"repo":{"id":1}}}', head, base },
  });

  it("lets what is no pull request, or one of the same repository, go on", () => {
    assert.equal(judge("push", { ref: "refs/heads/main" }), 0);
    assert.equal(judge("pull_request", pull({ label: "topic", repo: { id: 1, name: "r" } })), 0);
  });

  it("ends all others", () => {
    const cases: readonly (readonly [string, unknown])[] = [
      ["pull_request", pull({ label: "topic", repo: { id: 2 } })],
      ["pull_request", pull({ label: "topic", repo: null })],
      ["pull_request", pull({ label: "", repo: { id: 1 } })],
      ["pull_request", pull(null)],
      ["pull_request", pull({ label: "topic", repo: {} }, { label: "main", repo: {} })],
      ["pull_request_target", pull({ label: "topic", repo: { id: 1 } })],
      ["pull_request_review", pull({ label: "topic", repo: { id: 2 } })],
      ["pull_request", {}],
      ["pull_request", "no json"],
      ["pull_request", '{"pull_request":{"head":{"label":"x","repo":{"id":1}}'],
      ["pull_request", "[".repeat(100_000)],
    ];
    for (const [name, event] of cases) {
      assert.equal(judge(name, event), 1, JSON.stringify(event).slice(0, 100));
    }
  });
});
