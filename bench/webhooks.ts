import { samplePool } from "../test/samples.ts";
import { World } from "../test/world.ts";
import type { JobSighting } from "../src/domain/job.ts";
import type { Bench } from "./measure.ts";

const jobs = 10_000;
/** One every 100 ms: a large organisation's busiest quarter of an hour. */
const everyMs = 100;
const bootMs = 20_000;
const lost = 0.2;
const doubled = 0.1;
const reordered = 0.1;
/** So late that a later event of its job comes first. */
const lateMs = 40_000;

/**
 * The real fleet on a virtual clock, told by a forge whose webhooks are lost, doubled and out of
 * order; its poll, every 30 s, is the truth.
 */
export const webhooks: Bench = {
  name: "webhooks",
  about: `${jobs} jobs by webhooks of which 20 % are lost, 10 % doubled, 10 % reordered`,
  run: async () => {
    const pools = [samplePool({ max: 2_000, idleSeconds: 60 })];
    const world = await World.open({ pools, provider: { bootMs } });
    const { forge, clock } = world;
    let seed = 7;
    const chance = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
    const tell = forge.tell;
    const send = (sighting: JobSighting): void => {
      const isLate = chance() < reordered;
      if (isLate) clock.after(chance() * lateMs, () => tell(sighting));
      else tell(sighting);
    };
    let served = 0;
    forge.tell = (sighting) => {
      // As real ones do, its list forgets a job that is over.
      if (sighting.state === "ended") {
        served += sighting.outcome === "success" ? 1 : 0;
        forge.jobs.delete(sighting.externalId);
      }
      if (chance() < lost) return;
      send(sighting);
      if (chance() < doubled) send(sighting);
    };
    for (let made = 0; made < jobs;) {
      for (let n = 0; n < 10; n++) forge.queue(`${made++}`);
      await clock.run(10 * everyMs);
    }
    await clock.run(30 * 60_000);
    const machines = world.provider.calls.create;
    await world.close();
    return [
      {
        name: "jobs that got a runner",
        value: served,
        unit: "jobs",
        limit: jobs,
        limitName: "told of, or not",
        sense: "at least",
        goal: 1,
      },
      {
        name: "machines made",
        value: machines,
        unit: "machines",
        limit: jobs,
        limitName: "one a job",
        sense: "at most",
        goal: 1.02,
      },
    ];
  },
};
