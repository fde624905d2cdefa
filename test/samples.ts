import { labelClass } from "../src/domain/matching.ts";
import { free } from "../src/domain/money.ts";
import type { JobSighting } from "../src/domain/job.ts";
import type { Pool } from "../src/domain/pool.ts";
import {
  samplePool as domainPool,
  sampleSighting as domainSighting,
  sampleSize,
} from "../src/domain/samples.ts";
import type { Size } from "../src/domain/size.ts";
import type { PlacedSighting } from "../src/store/jobs.ts";
import type { Claim } from "../src/store/runners.ts";

/* Ordinary values for tests of the store and the fleet, of which a test changes what it is about. */

export const size: Size = sampleSize;

/** A pool of provider `box` that any label class may ask for by no label at all. */
export function samplePool(changes: Partial<Pool> = {}): Pool {
  return domainPool({ provider: "box", labels: [], idleSeconds: 60, ...changes });
}

export function sampleSighting(changes: Partial<JobSighting> = {}): JobSighting {
  return domainSighting({ queuedAt: 1_800_000_000_000, ...changes });
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
