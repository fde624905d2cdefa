import { forgeConformance, type ForgeWorld, type WorldJob } from "../conformance.ts";
import { fakeInstallation } from "../fake-context.ts";
import type { Forge } from "../forge.ts";
import type { FakeForgejo } from "./fake/forgejo.ts";
import type { FakeJob, FakeRunner } from "./fake/state.ts";
import { playForgejo } from "./testing.ts";

forgeConformance({
  name: "Forgejo, played",
  open,
  labels: ["ubuntu-latest", "x64"],
  matches: [
    [["linux"], ["linux", "x64"], true],
    [["linux", "gpu"], ["linux", "x64"], false],
    [["Linux"], ["linux"], false],
    [[], ["linux"], false],
  ],
  signatureHeader: "x-forgejo-signature",
  lacks: { events: "Forgejo has no event for a job, only for the end of a run" },
});

async function open(): Promise<ForgeWorld> {
  const { fake, forge, secrets } = await playForgejo();
  const { state } = fake;
  const jobOf = ({ id }: WorldJob): FakeJob => {
    const job = state.jobs.get(Number(id));
    if (job === undefined) throw new Error(`the world has no job ${id}`);
    return job;
  };
  const runnerNamed = (name: string): FakeRunner => {
    const runner = [...state.runners.values()].find((known) => known.name === name);
    if (runner === undefined) throw new Error(`the world has no runner ${name}`);
    return runner;
  };
  return {
    forge: withJobs(forge, fake),
    installation: fakeInstallation,
    queue: async ({ labels, trust }) => {
      const run = state.addRun("push", trust === "fork");
      return { id: String(state.addJob(run, labels).id) };
    },
    event: async () => fake.push(),
    otherEvent: async () => fake.push(),
    start: async (job, name) => {
      state.take(runnerNamed(name), jobOf(job).handle);
    },
    end: async (job, outcome) => state.end(jobOf(job), outcome as FakeJob["status"]),
    forget: async ({ id }) => void state.jobs.delete(Number(id)),
    registered: async () => [...state.runners.values()].map(({ name }) => name),
    registerOther: async (name) => void state.register(name, "", false),
    outage: (kind) => fake.server.outage(kind),
    secrets: () => [...secrets, ...state.secrets],
    close: () => fake.server.close(),
  };
}

/** A runner is only registered for a job: one that no other waits for comes and goes with it. */
function withJobs(forge: Forge, { state }: FakeForgejo): Forge {
  return {
    name: forge.name,
    match: (asked, offered) => forge.match(asked, offered),
    verify: (request) => forge.verify(request),
    poll: (signal) => forge.poll(signal),
    find: async (job, signal) => (await forge.find?.(job, signal)) ?? null,
    mint: (runner, context) => forge.mint(runner, context),
    registrations: (signal) => forge.registrations(signal),
    remove: (name, signal) => forge.remove(name, signal),
    handOver: async (runner, context, signal) => {
      const isWaiting = [...state.jobs.values()].some(({ status }) => status === "waiting");
      if (isWaiting) return (await forge.handOver?.(runner, context, signal)) ?? null;
      const job = state.addJob(state.addRun("push", false), runner.labels);
      try {
        return (await forge.handOver?.(runner, context, signal)) ?? null;
      } finally {
        state.jobs.delete(job.id);
      }
    },
  };
}
