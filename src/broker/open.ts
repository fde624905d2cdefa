import { brokerForge, type BrokerSettings } from "../domain/broker.ts";
import { MayflyError } from "../domain/errors.ts";
import type { Price } from "../domain/money.ts";
import type { Pool } from "../domain/pool.ts";
import type { Intake } from "../fleet/api.ts";
import type { Clock } from "../fleet/clock.ts";
import type { Log } from "../fleet/log.ts";
import type { Forge } from "../forges/forge.ts";
import type { Store } from "../store/store.ts";
import { Broker } from "./broker.ts";
import { home } from "./home.ts";
import { lender } from "./lender.ts";
import { LookUps } from "./look-ups.ts";
import { termsOf } from "./terms.ts";

export interface OpenParts {
  readonly settings: BrokerSettings;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** Changed: the configured forge gives way to one that knows what was lent, beside the broker's. */
  readonly forges: Map<string, Forge>;
}

/** The broker once the fleet that it lends from has been made. */
export type BrokerOf = (fleet: {
  readonly intake: Intake;
  readonly pools: readonly Pool[];
  readonly price: (pool: Pool) => Price;
}) => Broker;

/** Puts the broker among the forges. Throws `invalid` for a forge that cannot look up runs. */
export function openBroker({ settings, store, clock, log, forges }: OpenParts): BrokerOf {
  const inner = forges.get(settings.forge);
  if (inner?.runs === undefined) {
    throw new MayflyError("invalid", `forge ${settings.forge} cannot look up runs`, {
      where: "broker.forge",
      hint: "The broker needs a GitHub, Gitea or Forgejo.",
    });
  }
  const terms = termsOf(settings);
  const lookUps = new LookUps({ runs: inner.runs, clock, log });
  const lending = lender({ inner, store, terms, lookUps, now: clock.now, log });
  forges.set(inner.name, home(inner, store, terms));
  forges.set(lending.name, lending);
  return ({ intake, pools, price }) =>
    new Broker({
      ...{ terms, store, clock, log, lookUps, intake, inner, price },
      lender: lending,
      pools: pools.filter(({ forge }) => forge === brokerForge),
    });
}
