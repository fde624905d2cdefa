import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { guestProgram } from "../src/guest/program.ts";
import { never, World } from "../src/providers/conformance-world.ts";
import { open } from "../src/providers/ec2/ec2.ts";
import { Amazon, motoForTests, type Call } from "../src/providers/ec2/testing.ts";
import type { Provider } from "../src/providers/provider.ts";
import type { Bench, Measure } from "./measure.ts";

const machines = 1_000;
const runsPerSecond = 20;
const readsPerSecond = 2;
const endsPerSecond = 1;

/**
 * Many machines asked for at once, against moto: it answers slower than Amazon, so the rates
 * are what the provider keeps to, and not how fast machines come.
 */
export const ec2: Bench = {
  name: "ec2",
  about: `${machines} machines of EC2 at once, against moto: calls a second, doubles, memory`,
  run: async () => {
    const moto = await motoForTests();
    if (typeof moto === "string") throw new Error(moto);
    const amazon = await Amazon.start(moto.path);
    const options = amazon.options({ runsPerSecond, readsPerSecond, endsPerSecond });
    const world = await World.make((context) => open(options, context));
    try {
      const measures = await measured(amazon, world, await world.open());
      await world.close();
      return measures;
    } finally {
      await amazon.close();
    }
  },
};

async function measured(amazon: Amazon, world: World, provider: Provider): Promise<Measure[]> {
  const names = Array.from({ length: machines }, (_, n) => `${world.installation}-${n}`);
  const { size } = world.spec("0", provider);
  const make = async (name: string) => {
    const born = { managerUrl: "https://ci.example.org", claim: name, jobSeconds: 3_600 };
    const program = guestProgram({ ...born, lifeSeconds: 7_200 });
    const spec = { name, size, image: null, network: true, trust: ["trusted"] as const };
    await provider.create(spec, program, never);
  };
  // What is loaded and compiled once is not the machines' memory.
  for (const name of names.slice(0, 20)) await make(name);
  const before = await heapMb();
  await Promise.all(names.map(make));
  const living = await amazon.living(world.installation);
  const listed = await provider.list(never);
  await Promise.all(names.map((name) => end(provider, name)));
  const left = await amazon.living(world.installation);
  const most = (action: string) => busiest(amazon.calls.filter((call) => call.action === action));
  const atMost = (name: string, value: number, limit: number, unit = "calls"): Measure => {
    return { name, value, unit, limit, limitName: "its bound", sense: "at most", goal: 1 };
  };
  // A call late by a moment falls into the next second with its successor.
  const spare = 1.2;
  const measures: Measure[] = [
    atMost("RunInstances in the busiest second", most("RunInstances"), runsPerSecond * spare),
    atMost("DescribeInstances in it", most("DescribeInstances"), readsPerSecond * spare + 1),
    atMost("TerminateInstances in it", most("TerminateInstances"), endsPerSecond * spare + 1),
    atMost("RunInstances for all", amazon.count("RunInstances"), machines),
    atMost("TerminateInstances for all", amazon.count("TerminateInstances"), machines / 10),
    atMost("instances made", living.length, machines, "instances"),
    { ...atMost("machines listed", listed.length, machines, "machines"), sense: "at least" },
    atMost("instances left + 1", left.length + 1, 1, "instances"),
  ];
  // What the stand-in for Amazon has noted is not the provider's.
  amazon.forget();
  const grown = Math.max(0, (await heapMb()) - before);
  return [...measures, atMost("memory kept of all machines", grown, 20, "MB")];
}

/** As the fleet does: a machine that is ending is asked for again after a while. */
async function end(provider: Provider, name: string): Promise<void> {
  while ((await provider.destroy(name, never)) !== "gone") await sleep(1_000);
}

/** The most calls that began within one second, wherever that began. */
function busiest(calls: readonly Call[]): number {
  let most = 0;
  for (let from = 0, until = 0; until < calls.length; until++) {
    while (calls[until]!.at - calls[from]!.at >= 1_000) from++;
    most = Math.max(most, until - from + 1);
  }
  return most;
}

/** After the collector was told to collect. */
async function heapMb(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let round = 0; round < 5; round++) {
    await turn();
    collect();
  }
  return process.memoryUsage().heapUsed / 2 ** 20;
}
