import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { jobId, type JobSighting } from "../../domain/job.ts";
import { advanceJob } from "../../domain/lifecycle.ts";
import type { ForgeRequest } from "../forge.ts";
import { openWorld } from "./fake/world.ts";

const never = new AbortController().signal;

/** What a store makes of sightings, whatever their order. */
class Jobs {
  readonly known = new Map<string, JobSighting>();

  record(sightings: readonly JobSighting[]): void {
    for (const sighting of sightings) {
      const id = jobId(sighting.forge, sighting.externalId, sighting.attempt);
      const before = this.known.get(id);
      const { changed, changes } = advanceJob(before, sighting);
      if (changed) this.known.set(id, { ...before, ...changes } as JobSighting);
    }
  }
}

test("events in any order, lost and doubled, and then a poll, tell the truth", async () => {
  const world = await openWorld({ now: Date.now });
  const { forge, fake } = world;
  const { state } = fake;
  try {
    const fates = fc.array(fc.constantFrom("waits", "runs", "succeeds", "is taken back"), {
      minLength: 1,
      maxLength: 12,
    });
    const property = fc.asyncProperty(fates, fc.infiniteStream(fc.nat(99)), async (all, chance) => {
      state.jobs.clear();
      state.runs.clear();
      state.runners.clear();
      const jobs = new Jobs();
      const events: ForgeRequest[] = [];
      const truth = new Map<string, string>();
      for (const [n, fate] of all.entries()) {
        const { id } = await world.queue({ labels: ["linux"], trust: "trusted" });
        const job = world.jobOf(id);
        events.push(state.jobEvent(job));
        if (fate === "runs" || fate === "succeeds") {
          await world.registerOther(`m1-p-${n}`);
          state.start(job, `m1-p-${n}`);
          events.push(state.jobEvent(job));
        }
        if (fate === "succeeds") state.end(job, "success");
        if (fate === "is taken back") state.end(job, "cancelled");
        if (job.status === "completed") events.push(state.jobEvent(job));
        truth.set(id, `${job.status} ${job.conclusion} ${job.runner?.name ?? null}`);
      }
      const told = events.flatMap((event) => {
        const luck = chance.next().value;
        if (luck < 20) return [];
        return luck < 30 ? [event, event] : [event];
      });
      told.sort(() => chance.next().value - 50);
      for (const event of told) jobs.record((await forge.verify(event)).sightings);
      const polled = await forge.poll(never);
      jobs.record(polled);
      const shown = new Set(polled.map(({ externalId }) => externalId));
      for (const job of jobs.known.values()) {
        if (job.state === "ended" || shown.has(job.externalId)) continue;
        const found = await forge.find?.(job, never);
        if (found) jobs.record([found]);
      }
      const states = { waiting: "queued", started: "in_progress", ended: "completed" };
      const outcomes: Record<string, string> = { success: "success", cancelled: "cancelled" };
      for (const { externalId, state: at, outcome, runner } of jobs.known.values()) {
        const conclusion = outcome === null ? null : outcomes[outcome];
        assert.equal(`${states[at]} ${conclusion} ${runner}`, truth.get(externalId));
        truth.delete(externalId);
      }
      // Of those that were never heard of, all are over: there was nothing to do for them.
      for (const left of truth.values()) assert.match(left, /^completed/);
    });
    await fc.assert(property, { numRuns: 40 });
  } finally {
    await world.close();
  }
});
