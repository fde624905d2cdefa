import { isMet, ratio, type Bench, type Measure } from "./measure.ts";

/*
 * npm run bench [-- NAME] [--json]: a line a measure. Benches load one by one, so that one does not
 * warm or burden another more than it must.
 */
const benches: Readonly<Record<string, () => Promise<Bench>>> = {
  latency: async () => (await import("./latency.ts")).latency,
  throughput: async () => (await import("./throughput.ts")).throughput,
  flat: async () => (await import("./flat.ts")).flat,
  idle: async () => (await import("./idle.ts")).idle,
  help: async () => (await import("./help.ts")).help,
  simulate: async () => (await import("./simulate.ts")).simulate,
  webhooks: async () => (await import("./webhooks.ts")).webhooks,
  run: async () => (await import("./run.ts")).run,
  "github-poll": async () => (await import("./github-poll.ts")).githubPoll,
  qemu: async () => (await import("./qemu.ts")).qemu,
  ec2: async () => (await import("./ec2.ts")).ec2,
  broker: async () => (await import("./broker.ts")).broker,
};

const words = process.argv.slice(2);
const asJson = words.includes("--json");
const wanted = words.filter((word) => !word.startsWith("--"));
const unknown = wanted.find((name) => !(name in benches));
if (unknown !== undefined) {
  console.error(`no bench is named ${unknown}; there are ${Object.keys(benches).join(", ")}`);
  process.exit(64);
}

for (const [name, load] of Object.entries(benches)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const bench = await load();
  if (!asJson) console.log(`${bench.name}: ${bench.about}`);
  for (const measure of await bench.run()) console.log(line(bench.name, measure));
}

function line(bench: string, measure: Measure): string {
  const met = isMet(measure);
  if (asJson) return JSON.stringify({ bench, ...measure, ratio: ratio(measure), met });
  const { name, value, unit, limit, limitName, sense, goal } = measure;
  const compared = `${number(value)} ${unit} against ${number(limit)} (${limitName})`;
  return `  ${met ? "met    " : "NOT met"}  ${name}: ${compared}, ratio ${number(ratio(measure))}, goal ${sense} ${goal}`;
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
