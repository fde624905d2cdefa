import type { JobSighting } from "./job.ts";
import { labelClass } from "./matching.ts";
import { free } from "./money.ts";
import type { Pool } from "./pool.ts";
import type { Runner } from "./runner.ts";
import type { Size } from "./size.ts";

/* Ordinary values for tests, of which a test changes what it is about. */

export const sampleSize: Size = {
  cpu: 2,
  memoryMb: 4096,
  diskGb: 20,
  gpu: 0,
  architecture: "x64",
};

export function samplePool(changes: Partial<Pool> = {}): Pool {
  return {
    name: "small",
    forge: "acme",
    provider: "podman",
    labels: ["linux", "x64"],
    size: sampleSize,
    maximum: null,
    allow: [],
    deny: [],
    accept: ["trusted", "fork"],
    caps: { perRepository: null, perOwner: null },
    max: 10,
    min: 0,
    warm: 0,
    schedule: [],
    learn: null,
    image: null,
    network: false,
    bootDeadlineSeconds: 120,
    idleSeconds: 300,
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
    repository: "acme/widget",
    labels: ["linux"],
    trust: "trusted",
    url: null,
    runner: null,
    queuedAt: 1000,
    startedAt: null,
    endedAt: null,
    work: null,
    ...changes,
  };
}

export function sampleRunner(changes: Partial<Runner> = {}): Runner {
  return {
    name: "m1-small-a",
    pool: "small",
    forge: "acme",
    provider: "podman",
    labels: ["linux"],
    labelClass: labelClass(["linux"]),
    size: sampleSize,
    price: free,
    state: "claimed",
    reason: "a test",
    job: null,
    claimedAt: 1000,
    bornAt: 1000,
    askedAt: null,
    upAt: null,
    handedAt: null,
    startedAt: null,
    finishedAt: null,
    endedAt: null,
    goneAt: null,
    dueAt: 1000,
    tries: 0,
    costMicroUsd: 0,
    ...changes,
  };
}
