import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { isAbsolute } from "node:path";
import test from "node:test";
import { list as listTar } from "tar";
import { pipeline } from "node:stream/promises";
import { parseConfig } from "../config/load.ts";
import { sampleSurroundings } from "../config/samples.ts";
import { podmanOptions } from "../providers/podman/options.ts";
import { prepareExample } from "./example.ts";
import { isCheckout, packageRoot } from "./places.ts";
import { kinds } from "./setting.ts";

const configOf = (text: string) =>
  parseConfig(text, "mayfly.yaml", { ...sampleSurroundings(), kinds });
const needsCheckout = { skip: isCheckout(packageRoot()) ? false : "this is no checkout" };

test(
  "containers get a pool of their own, which lends Node and its packages",
  needsCheckout,
  async () => {
    const before = await configOf(
      "providers: { box: { podman: { mounts: [{ from: /srv, to: /srv }] } } }\npools: { small: { max: 5, warm: 2 } }",
    );
    const { config, example } = await prepareExample(before);
    assert.equal(example.pool, "example");
    assert.deepEqual(config.pools[0], before.pools[0], "the pool of others' jobs is as it was");
    assert.deepEqual(config.providers[0], before.providers[0], "and so is its provider");
    const [, pool] = config.pools;
    assert.deepEqual([pool?.max, pool?.warm, pool?.provider], [1, 0, "box-example"]);

    const { mounts } = podmanOptions.parse(config.providers[1]?.options);
    assert.deepEqual(mounts[0], { from: "/srv", to: "/srv" });
    assert.equal(mounts[1]?.to, "/node_modules");
    for (const { from } of mounts.slice(1)) assert.ok(existsSync(from), from);
    const [packages, node] = example.submission.command.slice(-2);
    assert.equal(packages, "/node_modules");
    const inMachine = mounts.find(({ to }) => node === to || node?.startsWith(`${to}/`));
    const here = node?.replace(inMachine?.to ?? "", inMachine?.from ?? "");
    assert.ok(here !== undefined && existsSync(here), `${node} is ${here} here`);
  },
);

test("plain processes reach them where they are", needsCheckout, async () => {
  const before = await configOf("providers: { here: { host: } }");
  const { config, example } = await prepareExample(before);
  assert.equal(config, before);
  assert.equal(example.pool, "default");
  for (const path of example.submission.command.slice(-2)) {
    assert.ok(isAbsolute(path) && existsSync(path), path);
  }
});

test("machines that nothing can be lent to run a small repository instead", async () => {
  const config = await configOf("providers: { far: { host: } }");
  const providers = config.providers.map((part) => ({ ...part, kind: "exec" }));
  const { example } = await prepareExample({ ...config, providers });
  assert.match(example.what, /built-in/);
  const names: string[] = [];
  await pipeline(await example.archive(), listTar({ onReadEntry: ({ path }) => names.push(path) }));
  assert.deepEqual(names, ["greeting.txt", "test.sh"]);
});
