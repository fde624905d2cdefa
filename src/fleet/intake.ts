import { MayflyError } from "../domain/errors.ts";
import { jobId, type JobSighting } from "../domain/job.ts";
import { labelClass, place } from "../domain/matching.ts";
import type { Caps, Pool } from "../domain/pool.ts";
import type { Forge, ForgeRequest } from "../forges/forge.ts";
import { recordSightings, type PlacedSighting } from "../store/jobs.ts";
import type { Store } from "../store/store.ts";
import type { Intake, Received } from "./api.ts";
import { Batch } from "./batch.ts";

interface Item {
  readonly placed: readonly PlacedSighting[];
  readonly note: string;
}

/** Events in one statement, and events that may wait for it. */
const batchMax = 200;
const queueMax = 10_000;

/**
 * Takes events: verify, decide the pool, store, then answer. Acting is the planner's, woken by the
 * commit.
 */
export class FleetIntake implements Intake {
  readonly #forges: ReadonlyMap<string, Forge>;
  readonly #pools: readonly Pool[];
  readonly #batch: Batch<Item, Received>;

  constructor(store: Store, forges: ReadonlyMap<string, Forge>, pools: readonly Pool[]) {
    this.#forges = forges;
    this.#pools = pools;
    this.#batch = new Batch((items) => storeItems(store, items), { max: batchMax, queueMax });
  }

  async receive(forgeName: string, request: ForgeRequest): Promise<Received> {
    const forge = this.#forge(forgeName);
    const events = await forge.verify(request);
    return this.#batch.add({
      placed: this.#place(forge, events.sightings),
      note: events.note,
    });
  }

  async record(sightings: readonly JobSighting[]): Promise<Received> {
    const placed = sightings.flatMap((sighting) =>
      this.#place(this.#forge(sighting.forge), [sighting]),
    );
    return this.#batch.add({ placed, note: "" });
  }

  #place(forge: Forge, sightings: readonly JobSighting[]): PlacedSighting[] {
    return sightings.map((sighting) => {
      const placement = place(sighting, this.#pools, (asked, offered) =>
        forge.match(asked, offered),
      );
      return {
        sighting,
        labelClass: labelClass(sighting.labels),
        pool: placement.pool?.name ?? null,
        size: placement.pool === null ? null : placement.size,
        reason: placement.reason,
        // Somebody waits for a native job's answer; another forge's job may be for other runners.
        refused: placement.pool === null && sighting.work !== null,
        caps: placement.pool === null ? null : capsOf(placement.pool),
      };
    });
  }

  #forge(name: string): Forge {
    const forge = this.#forges.get(name);
    if (forge !== undefined) return forge;
    throw new MayflyError("not_found", `there is no forge named ${JSON.stringify(name)}`, {
      where: "forge",
      hint: `The configured ones: ${[...this.#forges.keys()].join(", ")}.`,
    });
  }
}

function capsOf({ caps }: Pool): Caps | null {
  return caps.perRepository === null && caps.perOwner === null ? null : caps;
}

/** A job's identity makes a repeated event harmless; no list of deliveries has to be kept. */
function storeItems(store: Store, items: readonly Item[]): Promise<readonly Received[]> {
  return store.write(async (tx) => {
    const placed = items.flatMap((item) => item.placed);
    const changed = new Set(await recordSightings(tx, placed));
    return items.map((item) => {
      // Told twice in one batch, it is news to the first.
      const jobs = item.placed.map(idOf).filter((id) => changed.delete(id));
      const repeated = jobs.length === 0 && item.placed.length > 0;
      return { jobs, repeated, note: repeated ? "nothing new" : item.note };
    });
  });
}

function idOf({ sighting }: PlacedSighting): string {
  return jobId(sighting.forge, sighting.externalId, sighting.attempt);
}
