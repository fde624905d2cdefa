import { createFleet } from "../fleet/fleet.ts";
import type { Fleet } from "../fleet/api.ts";
import { silentLog } from "../fleet/log.ts";
import { silentObserver } from "../fleet/observer.ts";
import { Store } from "../store/store.ts";
import type { Chance } from "./chance.ts";
import type { SimClock } from "./clock.ts";
import type { Disk } from "./database.ts";
import type { Faults } from "./faults.ts";
import { ForgeClient } from "./forge-client.ts";
import type { SimForge } from "./forge.ts";
import type { Life } from "./life.ts";
import { ProviderClient, type ProviderClientParts } from "./provider-client.ts";
import type { Cloud } from "./cloud.ts";
import type { Scenario } from "./scenario.ts";

export interface ManagerParts {
  readonly scenario: Scenario;
  readonly clock: SimClock;
  readonly chance: Chance;
  readonly faults: Faults;
  readonly disk: Disk;
  readonly forge: SimForge;
  readonly clouds: ReadonlyMap<string, Cloud>;
  readonly tell: (line: string) => void;
  readonly asking: ProviderClientParts["asking"];
}

export interface Manager {
  readonly life: Life;
  readonly store: Store;
  readonly fleet: Fleet;
}

/** Starts the real manager for one life: its store, intake, planner, reconciler and sweep. */
export async function startManager(parts: ManagerParts, life: Life): Promise<Manager> {
  const { scenario, clock, chance, faults, disk, forge, clouds, tell, asking } = parts;
  const { generation } = life;
  const dialect = disk.dialect(life, (step) =>
    faults.strikes("store-fails", `${generation}/${step}`, 0.005),
  );
  const store = await Store.open({ engine: "sqlite", dialect }, clock.now);
  const client = new ForgeClient({ forge, pools: scenario.pools, clock, chance, faults, life });
  const providers = scenario.providers.flatMap((plan) => {
    const cloud = clouds.get(plan.name);
    if (cloud === undefined) return [];
    return [new ProviderClient({ plan, cloud, clock, chance, faults, life, tell, asking })];
  });
  const fleet = createFleet({
    store,
    clock: life.clock,
    chance: chance.stream(`manager/${generation}`),
    log: silentLog,
    observer: silentObserver,
    forges: new Map([[client.name, client]]),
    providers: new Map(providers.map((provider) => [provider.name, provider])),
    pools: scenario.pools,
    installation: "mf",
    replica: `life-${generation}`,
    claimToken: (name) => `claim-${name}`,
    publicUrl: () => "http://manager",
    desks: () => ({ native: unused(), guests: unused(), prune: () => Promise.resolve() }),
    timing: scenario.timing,
  });
  await fleet.start();
  return { life, store, fleet };
}

/** Native jobs and their guests have tests of their own. */
function unused(): never {
  return new Proxy({}, { get: () => () => Promise.reject(new Error("not simulated")) }) as never;
}
