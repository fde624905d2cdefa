import { forgeConformance, type ForgeWorld, type WorldJob } from "../conformance.ts";
import { fakeInstallation } from "../fake-context.ts";
import type { FakeJob } from "./fake/state.ts";
import { playGitea } from "./testing.ts";

for (const version of ["1.27.3", "1.26.0", "1.25.5"]) {
  forgeConformance({
    name: `Gitea ${version}, played`,
    open: () => open(version),
    labels: ["ubuntu-latest", "x64"],
    matches: [
      [["linux"], ["linux", "x64"], true],
      [["linux", "gpu"], ["linux", "x64"], false],
      [["Linux"], ["linux"], false],
      [[], ["linux"], true],
    ],
    signatureHeader: "x-gitea-signature",
  });
}

async function open(version: string): Promise<ForgeWorld> {
  const { fake, forge, secrets } = await playGitea({ version });
  const jobOf = ({ id }: WorldJob): FakeJob => {
    const job = fake.state.jobs.get(Number(id));
    if (job === undefined) throw new Error(`the world has no job ${id}`);
    return job;
  };
  return {
    forge,
    installation: fakeInstallation,
    queue: async ({ labels, trust }) => {
      const ref =
        trust === "trusted"
          ? "refs/heads/main"
          : `refs/pull/${fake.state.addPull("fork").number}/head`;
      const event = trust === "trusted" ? "push" : "pull_request";
      const run = fake.state.addRun({ repository: "acme/rocket", event, ref });
      return { id: String(fake.state.addJob(run, labels).id) };
    },
    event: async (job) => fake.event(jobOf(job)),
    otherEvent: async () => fake.signed("push", { ref: "refs/heads/main" }),
    start: async (job, name) => {
      const runner = [...fake.state.runners.values()].find((known) => known.name === name);
      if (runner === undefined) throw new Error(`the world has no runner ${name}`);
      fake.state.start(jobOf(job), runner);
    },
    end: async (job, outcome) => {
      fake.state.end(jobOf(job), outcome as FakeJob["status"]);
    },
    forget: async ({ id }) => void fake.state.jobs.delete(Number(id)),
    registered: async () => [...fake.state.runners.values()].map(({ name }) => name),
    registerOther: async (name) => void fake.state.register(name, ["linux"], false),
    outage: (kind) => fake.server.outage(kind),
    secrets: () => [...secrets, ...fake.state.secrets],
    close: () => fake.server.close(),
  };
}
