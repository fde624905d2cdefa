import { faults } from "./faults.ts";
import type { Outcome } from "./run.ts";
import type { Scenario } from "./scenario.ts";

/** A run read aloud: what the world was like, what could go wrong, and what happened when. */
export function storyOf(scenario: Scenario, outcome: Outcome): string {
  const { rule, pools, providers } = scenario;
  const lines = [
    `A forge that works like ${rule.name}; ${providers.map(({ name }) => name).join(" and ")}.`,
    ...pools.map(
      ({ name, provider, labels, accept, max, min, warm, bootDeadlineSeconds, idleSeconds }) =>
        `Pool ${name} on ${provider}: ${labels.join(" ")}; takes ${accept.join(" and ")} jobs; ` +
        `max ${max}, min ${min}, warm ${warm}; boots within ${bootDeadlineSeconds} s, ` +
        `idle for ${idleSeconds} s at most.`,
    ),
    ...[...outcome.happened].map(
      ([fault, times]) => `${faults[fault]} (${fault}, ${times} times).`,
    ),
    "",
    ...outcome.story.map(({ atMs, line }) => `${seconds(atMs)} s  ${line}`),
  ];
  return lines.join("\n");
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(3).padStart(9);
}
