import assert from "node:assert/strict";
import { test } from "node:test";
import { forges } from "../forges/registry.ts";
import { providers } from "../providers/registry.ts";
import type { Config } from "./config.ts";
import { parseConfig } from "./load.ts";
import { ConfigError } from "./problems.ts";
import { sampleSurroundings } from "./samples.ts";

const kinds = { forges, providers };
const environment = { TOKEN: "a-token" };
const forge = `forges:
  rr: { github: { url: https://github.com/rr-debugger/rr, token: env:TOKEN } }
`;

function load(text: string): Promise<Config> {
  const surroundings = { ...sampleSurroundings(), environment: { ...environment }, kinds };
  return parseConfig(text, "mayfly.yaml", surroundings);
}

async function faults(text: string): Promise<string[]> {
  try {
    await load(text);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(
      ({ line, column, path, message }) => `${line}:${column}: ${path}: ${message}`,
    );
  }
}

test("a broker needs no more than to be there, where its forge is for one repository", async () => {
  const { broker, pools } = await load(`${forge}broker:\npools: { small: { provider: host } }\n`);
  assert.deepEqual(broker, {
    ...{ forge: "rr", repositories: ["rr-debugger/rr"], label: "mayfly_{run}_{attempt}" },
    ...{ workflows: [], pools: { x86_64: "small" }, perRun: 1, perRepository: 10 },
    ...{ perAddress: 20, perHour: 100, microUsdPerDay: 10_000_000 },
    ...{ answerSeconds: 600, waitSeconds: 900 },
  });
  const [pool] = pools;
  assert.deepEqual(
    [pool?.forge, pool?.labels, pool?.idleSeconds, pool?.network],
    ["broker", ["arch_x86_64"], 0, true],
  );
});

test("everything may be said, and pools beside the broker's stay as they are", async () => {
  const { broker, pools, warnings } =
    await load(`${forge}  other: { gitea: { url: "https://git.example.com", scope: acme, token: env:TOKEN } }
broker:
  forge: other
  repositories: [acme/rocket, acme/boat]
  label: rr_runner_{id}
  workflows: [build.yml]
  pools: { x86_64: big, arm64: big }
  perRun: 2
  perRepository: 4
  perAddress: 5
  perHour: 6
  usdPerDay: 0.5
  answer: 2m
  wait: 3m
pools:
  big: { provider: host, idle: 1m }
  mine: { provider: host, forge: rr, labels: [linux] }
`);
  assert.equal(broker?.microUsdPerDay, 500_000);
  assert.deepEqual([broker.answerSeconds, broker.waitSeconds], [120, 180]);
  assert.deepEqual(
    pools.map(({ name, forge: of, labels, idleSeconds }) => [name, of, labels, idleSeconds]),
    [
      ["big", "broker", ["arch_x86_64", "arch_arm64"], 60],
      ["mine", "rr", ["linux"], 300],
    ],
  );
  assert.match(
    warnings.join("\n"),
    /pool big refuses it unless it has "accept: \[trusted, fork\]"/,
  );
});

test("mistakes are told at their place", async () => {
  assert.deepEqual(
    await faults(`${forge}broker:
  forge: rrr
  repositories: [rr]
  label: "{run}"
  usdPerDay: -1
  perRun: 0
  wait: soon
  colour: red
pools: { small: { provider: host } }
`),
    [
      "5:18: broker.repositories[0]: must be a repository, written owner/name",
      "7:3: broker.usdPerDay: must be at least 0",
      "8:3: broker.perRun: must be at least 1",
      '9:3: broker.wait: "soon" is no duration up to 30d; write it like "90s", "5m" or "2h"',
      "10:3: broker.colour: unknown key; known are forge, repositories, label, workflows, pools, perRun, perRepository, perAddress, perHour, usdPerDay, answer and wait",
    ],
  );
  assert.deepEqual(
    await faults(`${forge}broker:
  forge: rrr
  label: "{run}"
  pools: { x86_64: smal, "x;y": small }
pools:
  small: { provider: host, labels: [a], forge: native }
`),
    [
      '3:1: broker: lends to no repository; add "repositories: [owner/name]"',
      '4:3: broker.forge: there is no forge "rrr"; did you mean "rr"?',
      "5:3: broker.label: the label's template must begin with a word of its own and _ or -; write it like mayfly_{run}_{attempt} or rr_runner_{id}",
      '6:12: broker.pools.x86_64: there is no pool "smal"; did you mean "small"?',
      "6:26: broker.pools.x;y: is no architecture; take a-z, 0-9 and _, at most 20 of them",
      "8:28: pools.small.labels: the broker gives this pool its labels; leave them out",
      "8:41: pools.small.forge: its machines are lent by the broker, at another forge; leave it out",
    ],
  );
  assert.deepEqual(await faults("broker: {}\n"), [
    "1:1: broker: does not say at which forge its runs are; configure one under `forges`",
    '1:1: broker: lends to no repository; add "repositories: [owner/name]"',
  ]);
  assert.deepEqual(
    await faults(`forges:
  broker: { github: { url: https://github.com/acme, token: env:TOKEN } }
broker: { forge: broker, repositories: [acme/rocket] }
pools: { a: { provider: host }, b: { provider: host } }
`),
    [
      '3:1: broker: a forge is called "broker" too; give it another name',
      '3:1: broker: does not say whose machines it lends; add "pools: { x86_64: POOL }"',
    ],
  );
  assert.deepEqual(
    await faults(`forges: { here: { native: {} } }
broker: { forge: here, repositories: [acme/rocket] }
pools: { a: { provider: host } }
`),
    ['2:11: broker.forge: "here" has no runs to lend to; name a GitHub, Gitea or Forgejo'],
  );
});
