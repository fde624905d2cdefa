import { z } from "zod";
import { secret } from "../domain/secret.ts";
import type { Surroundings } from "./load.ts";
import type { Kinds } from "./schema.ts";

/* What the tests of this folder share: kinds and a machine that no real one can disturb. */

const sampleKinds: Kinds = {
  forges: {
    native: {
      summary: "Jobs of no forge.",
      options: z.object({ secret: secret.optional(), paths: z.array(z.string()).optional() }),
    },
    hub: { summary: "A forge.", options: z.object({ url: z.url(), key: secret }) },
  },
  providers: {
    podman: {
      summary: "Containers.",
      options: z.object({ image: z.string().optional() }),
    },
    host: { summary: "Processes.", options: z.object({}) },
    exec: {
      summary: "A program.",
      options: z.object({
        command: z.array(z.string()).min(1),
        environment: z
          .record(z.string().regex(/^[A-Z]+$/, "the name of a variable"), z.string())
          .optional(),
      }),
    },
  },
};

export function sampleSurroundings(changes: Partial<Surroundings> = {}): Surroundings {
  return {
    kinds: sampleKinds,
    machine: { cpu: 8, memoryMb: 16_384, diskGb: 100, gpu: 0, architecture: "x64" },
    stateFolder: "/state",
    environment: {},
    detect: async () => ({ kind: "host", warning: "podman does not work here" }),
    ...changes,
  };
}
