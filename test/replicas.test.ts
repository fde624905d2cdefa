import assert from "node:assert/strict";
import { test } from "node:test";
import { postgresMissing } from "./postgres.ts";
import { Chaos } from "./replicas/chaos.ts";
import { checkAll } from "./replicas/checks.ts";
import { ReplicaWorld } from "./replicas/world.ts";

/*
 * Real managers on a real server, one after the other killed, stopped and cut off. For longer:
 *   MAYFLY_REPLICA_SECONDS=120 MAYFLY_REPLICA_SEED=7 node --test test/replicas.test.ts
 */
const seconds = Number(process.env["MAYFLY_REPLICA_SECONDS"] ?? 9);
const seed = Number(process.env["MAYFLY_REPLICA_SEED"] ?? 1);

test(
  "three replicas: killed, stopped and cut off, they do everything once and lose nothing",
  { skip: postgresMissing ?? false, timeout: (seconds + 600) * 1000 },
  async (t) => {
    const pools = ["one", "two", "three", "four"];
    const world = await ReplicaWorld.open({
      leaseSeconds: 3,
      pools,
      max: 3,
      skewsMs: [-7_000, 0, 5_000],
    });
    t.after(() => world.close());
    const chaos = new Chaos(world, seed);
    await chaos.spreadOut();
    await chaos.run(seconds * 1000);
    await chaos.calm();
    const report = await checkAll(world, chaos);
    for (const line of report) t.diagnostic(line);
    await chaos.spreadOut();
    assert.deepEqual(world.machines(), [], "machines left");
  },
);
