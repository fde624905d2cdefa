import { openWorld } from "../src/forges/github/fake/world.ts";
import type { Bench } from "./measure.ts";

const repositories = 1_000;
const pollMs = 30_000;
const polls = 120;
const quota = 12_500;
const jobsARun = 3;
/** A run lasts so many polls. */
const runPolls = 8;
const signal = new AbortController().signal;

interface Waiting {
  readonly since: number;
  readonly isPushed: boolean;
}

/**
 * One hour of polls by the manager's own clock, over real HTTP: in each minute a run begins that
 * somebody pushed, and one by a schedule, of which nothing shows but in the repository's own list.
 */
export const githubPoll: Bench = {
  name: "github-poll",
  about: `an hour of polls of ${repositories} repositories at a GitHub on this machine`,
  run: async () => {
    let at = Date.parse("2026-03-01T10:00:00Z");
    const world = await openWorld({ now: () => at });
    try {
      const { state } = world.fake;
      for (let n = 1; n < repositories; n++) state.repository(`r${n}`).pushedAt = at - 86_400_000;
      // What GitHub gives an App that is installed on so many; a token gets 5,000, and keeps its tags.
      Object.assign(state.limit, { limit: quota, remaining: quota, resetAt: at + 86_400_000 });
      const waiting = new Map<string, Waiting>();
      const ending = new Map<number, string[]>();
      const delays = { pushed: [0], quiet: [0] };
      for (let poll = 0; poll < polls; poll++) {
        at += pollMs;
        // An installation's token ends within the hour, and what was asked counts anew with the next.
        if (poll === polls / 2) state.salt = "next";
        for (const isPushed of poll % 2 === 0 && poll < polls - 40 ? [true, false] : []) {
          const repository = state.repository(`r${(poll * 37 + (isPushed ? 0 : 501)) % 999}`);
          if (isPushed) repository.pushedAt = at;
          const run = state.run(repository, repository, isPushed ? "push" : "schedule");
          for (let n = 0; n < jobsARun; n++) {
            const id = String(state.job(run, ["linux"]).id);
            waiting.set(id, { since: at, isPushed });
          }
        }
        for (const id of ending.get(poll) ?? []) state.end(world.jobOf(id), "success");
        for (const { externalId } of await world.forge.poll(signal)) {
          const told = waiting.get(externalId);
          if (told === undefined) continue;
          waiting.delete(externalId);
          (told.isPushed ? delays.pushed : delays.quiet).push(at - told.since);
          const last = poll + runPolls;
          ending.set(last, [...(ending.get(last) ?? []), externalId]);
        }
      }
      if (waiting.size > 0)
        throw new Error(
          `${waiting.size} jobs were not found, with ${state.limit.remaining} requests left`,
        );
      const used = state.limit.limit - state.limit.remaining;
      const common = { sense: "at most", goal: 1 } as const;
      const late = { ...common, unit: "s", limitName: "bound" };
      const most = (all: readonly number[]): number => Math.max(...all) / 1000;
      return [
        {
          ...common,
          name: "requests that count",
          value: used,
          unit: "an hour",
          limit: state.limit.limit * 0.5,
          limitName: "half of the quota, from where polls slow down",
        },
        { ...late, name: "a pushed job is seen", value: most(delays.pushed), limit: 30 },
        { ...late, name: "a scheduled job is seen", value: most(delays.quiet), limit: 900 },
      ];
    } finally {
      await world.close();
    }
  },
};
