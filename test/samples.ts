import { labelClass } from "../src/domain/matching.ts";
import { free } from "../src/domain/money.ts";
import type { JobSighting } from "../src/domain/job.ts";
import type { Pool } from "../src/domain/pool.ts";
import type { Size } from "../src/domain/size.ts";
import type { PlacedSighting } from "../src/store/jobs.ts";
import type { Claim } from "../src/store/runners.ts";

/* Whole values for tests, each field overridable. */

export const size: Size = { cpu: 2, memoryMb: 4096, diskGb: 20, gpu: 0, architecture: "x64" };

export function samplePool(changes: Partial<Pool> = {}): Pool {
  return {
    name: "small",
    forge: "acme",
    provider: "box",
    labels: [],
    size,
    maximum: null,
    allow: [],
    deny: [],
    accept: ["trusted", "fork"],
    max: 10,
    min: 0,
    warm: 0,
    schedule: [],
    image: null,
    network: false,
    bootDeadlineSeconds: 120,
    idleSeconds: 60,
    jobDeadlineSeconds: 3600,
    ...changes,
  };
}

export function sampleSighting(changes: Partial<JobSighting> = {}): JobSighting {
  return {
    forge: "acme",
    externalId: "1",
    attempt: 1,
    state: "waiting",
    outcome: null,
    name: "test",
    repository: "acme/rocket",
    labels: ["linux"],
    trust: "trusted",
    url: null,
    runner: null,
    queuedAt: 1_800_000_000_000,
    startedAt: null,
    endedAt: null,
    work: null,
    ...changes,
  };
}

export function placed(
  sighting: JobSighting,
  changes: Partial<PlacedSighting> = {},
): PlacedSighting {
  return {
    sighting,
    labelClass: labelClass(sighting.labels),
    pool: "small",
    size,
    reason: "pool small: 2 cpu",
    refused: false,
    ...changes,
  };
}

export function sampleClaim(name: string, changes: Partial<Claim> = {}): Claim {
  const labels = changes.labels ?? ["linux"];
  return {
    name,
    pool: "small",
    forge: "acme",
    provider: "box",
    labels,
    labelClass: labelClass(labels),
    size,
    price: free,
    reason: "1 job waiting",
    ...changes,
  };
}
