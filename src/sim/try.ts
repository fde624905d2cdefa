import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";
const from = Number(process.argv[2]),
  count = Number(process.argv[3]);
const t = performance.now();
let bad = 0,
  steps = 0,
  sim = 0;
const kinds = new Map<string, number[]>();
for (let s = from; s < from + count; s++) {
  const o = await run(scenarioOf(s));
  steps += o.steps;
  sim += o.simulatedMs;
  if (o.violation) {
    bad++;
    const k = o.violation.invariant;
    kinds.set(k, [...(kinds.get(k) ?? []), s]);
  }
  if (count === 1) {
    for (const { atMs, line } of o.story) console.log((atMs / 1000).toFixed(3).padStart(9), line);
    console.log(o.happened);
  }
}
console.log(
  count,
  "seeds",
  bad,
  "bad",
  ((count / (performance.now() - t)) * 1000).toFixed(1),
  "/s",
  steps / count,
  sim / count / 60000,
);
for (const [k, v] of kinds) console.log(k, v.length, v.slice(0, 8).join(" "));
