import type { Pool } from "../src/domain/pool.ts";
import type { Fleet } from "../src/fleet/api.ts";
import { systemClock } from "../src/fleet/clock.ts";
import { createFleet, type Timing } from "../src/fleet/fleet.ts";
import { silentLog } from "../src/fleet/log.ts";
import { silentObserver } from "../src/fleet/observer.ts";
import type { Forge } from "../src/forges/forge.ts";
import { FakeProvider } from "../src/providers/fake/fake.ts";
import type { Provider } from "../src/providers/provider.ts";
import type { Store } from "../src/store/store.ts";

/** A forge that takes every label and knows nothing by itself. */
const quietForge: Forge = {
  name: "acme",
  match: () => true,
  verify: () => ({ sightings: [], note: "" }),
  poll: async () => [],
  mint: async () => ({ files: [], command: ["true"], environment: {}, deadlineSeconds: 7200 }),
  registrations: async () => [],
  remove: async () => "gone",
};

/** The real fleet on the real clock, with a provider that only keeps machines in mind. */
export function benchFleet(
  store: Store,
  pools: readonly Pool[],
  timing: Partial<Timing> = {},
  { forge = quietForge, provider = boxProvider() }: { forge?: Forge; provider?: Provider } = {},
): Fleet {
  const none = (): Promise<never> => Promise.reject(new Error("not in this bench"));
  return createFleet({
    store,
    clock: systemClock,
    chance: Math.random,
    log: silentLog,
    observer: silentObserver,
    forges: new Map([[forge.name, forge]]),
    providers: new Map([[provider.name, provider]]),
    pools,
    installation: "b",
    replica: "bench",
    claimToken: (name) => name,
    publicUrl: () => "http://127.0.0.1",
    desks: () => ({
      native: { submit: none, keepTree: none, cancel: none, openArtifact: none },
      guests: {
        redeem: none,
        work: none,
        source: none,
        append: none,
        orders: none,
        keepArtifact: none,
        finish: none,
      },
      prune: async () => {},
    }),
    timing,
  });
}

export function boxProvider(): FakeProvider {
  return new FakeProvider({ name: "box", installation: "b", clock: systemClock });
}
