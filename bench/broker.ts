import { once } from "node:events";
import { execFile, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openWorld, type GithubWorld } from "../src/forges/github/fake/world.ts";
import { startServer } from "./events.ts";
import { load, request } from "./load.ts";
import { quantile, type Bench } from "./measure.ts";

const nonsensePerSecond = 1_000;
const seconds = 15;
const ordersPerSecond = 10;
const begunMs = 7_000;
/** So many that none is asked about again while its last answer holds. */
const runsAtOnce = 40;
/** What a forge takes over the network, at its best. */
const forgeMs = 50;

/** Orders that are good, alone and in a flood of others that are not, over HTTP and a real disk. */
export const broker: Bench = {
  name: "broker",
  about: `${ordersPerSecond} orders a second beside ${nonsensePerSecond} of nonsense, at a forge of ${forgeMs} ms a call`,
  run: async () => {
    const world = await openWorld({ now: Date.now });
    const token = [...world.fake.state.tokens][0] ?? "";
    Object.assign(world.fake.state.limit, { limit: 1e9, remaining: 1e9 });
    const { port, server, stop } = await startServer("broker-server.ts", world.fake.url, token);
    try {
      const orders = async (): Promise<Buffer[]> => {
        const begun = runs(world, runsAtOnce);
        // As runs do before one of their jobs gets to ask: by then a list shows them.
        await sleep(begunMs);
        return Array.from({ length: ordersPerSecond * seconds }, (_, n) =>
          order(begun[n % runsAtOnce] ?? "", n),
        );
      };
      // Its first list, and code that has run before, as often as Node's compiler wants to see it.
      await load(port, [order("1", 0)], { connections: 1 });
      await flood(port, 10_000, 0);
      world.fake.delayMs = forgeMs;
      const alone: number[] = [];
      for (const run of runs(world, ordersPerSecond * seconds)) {
        const next = sleep(1000 / ordersPerSecond);
        alone.push(await ask(server, run));
        await next;
      }
      clear(world);

      const good = await orders();
      const idleFrom = await ask(server, "cpu");
      const quiet = await load(port, good, { connections: 20, perSecond: ordersPerSecond });
      const idleCpu = (await ask(server, "cpu")) - idleFrom;
      clear(world);

      const later = await orders();
      const busyFrom = await ask(server, "cpu");
      const [refused, loaded] = await Promise.all([
        flood(port, nonsensePerSecond * seconds, nonsensePerSecond),
        load(port, later, { connections: 20, perSecond: ordersPerSecond }),
      ]);
      const busyCpu = (await ask(server, "cpu")) - busyFrom;
      expect(quiet.statuses, 202, good.length);
      expect(loaded.statuses, 202, later.length);
      // 200: to destroy what was never lent is well.
      if (refused.statuses[202] !== undefined) throw new Error("nonsense was taken");
      const p99 = (samples: readonly number[]): number => quantile(samples, 0.99);
      return [
        {
          name: "nonsense refused a second",
          value: (nonsensePerSecond * seconds) / refused.seconds,
          unit: "a second",
          limit: nonsensePerSecond,
          limitName: "sent",
          sense: "at least",
          goal: 0.97,
        },
        {
          name: "what refusing it costs",
          value: (busyCpu - idleCpu) / 1000 / refused.seconds,
          unit: "cores",
          limit: 0.2,
          limitName: "bound",
          sense: "at most",
          goal: 1,
        },
        {
          name: "an order's answer in the flood, p99",
          value: p99(loaded.latenciesMs),
          unit: "ms",
          limit: p99(alone),
          limitName: "the forge's check and one durable row alone, p99",
          sense: "at most",
          goal: 1.5,
        },
        {
          name: "an order's answer without it, p99",
          value: p99(quiet.latenciesMs),
          unit: "ms",
          limit: p99(alone),
          limitName: "the forge's check and one durable row alone, p99",
          sense: "at most",
          goal: 1.25,
        },
      ];
    } finally {
      await stop();
      await world.close();
    }
  },
};

/** Runs in progress, each with a job at work. */
function runs({ fake: { state } }: GithubWorld, count: number): string[] {
  const repository = state.repository("widget");
  return Array.from({ length: count }, () => {
    const run = state.run(repository, repository);
    run.hasMore = true;
    Object.assign(state.job(run, ["ubuntu-latest"]), { status: "in_progress" });
    return String(run.id);
  });
}

/** What is over is forgotten: the forge that is played looks through all that it has. */
function clear({ fake: { state } }: GithubWorld): void {
  state.runs.clear();
  state.jobs.clear();
}

function order(run: string, n: number): Buffer {
  const label = `mayfly_${run}_${String(n).padStart(8, "0")}`;
  const body = { repository: "acme/widget", run, architectures: ["x86_64"], label };
  return request("/v1/broker/orders", from(n), JSON.stringify(body));
}

/** Sent by a process of its own, so that what is measured here waits for nothing but the server. */
function flood(port: number, count: number, perSecond: number): Promise<Flooded> {
  const script = join(import.meta.dirname, "broker-flood.ts");
  const words = [script, port, count, perSecond].map(String);
  return new Promise((resolve, reject) => {
    execFile(process.execPath, words, (error, said) =>
      error === null ? resolve(JSON.parse(said) as Flooded) : reject(error),
    );
  });
}

interface Flooded {
  readonly seconds: number;
  /** How many of each. */
  readonly statuses: Readonly<Record<string, number>>;
}

function from(n: number): Record<string, string> {
  return { "x-forwarded-for": `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}` };
}

async function ask(server: ChildProcess, what: string): Promise<number> {
  const answered = once(server, "message");
  server.send(what);
  const [value] = (await answered) as [number];
  return value;
}

function expect(statuses: ReadonlyMap<number, number>, status: number, count: number): void {
  if (statuses.get(status) === count) return;
  throw new Error(`not all answered ${status}: ${JSON.stringify([...statuses])}`);
}
