import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import { getCookie } from "hono/cookie";
import type { Broker } from "../broker/broker.ts";
import { MayflyError } from "../domain/errors.ts";
import type { Fleet } from "../fleet/api.ts";
import type { Log } from "../fleet/log.ts";
import type { Access, RequestFacts } from "./access.ts";
import type { BodyBudget } from "./body.ts";
import type { Checks } from "./checks.ts";
import type { Metrics } from "./metrics.ts";
import type { EventStreams } from "./sse.ts";
import type { Trends } from "./trends.ts";

/** What every route is given. */
export interface Web {
  readonly fleet: Fleet;
  readonly log: Log;
  readonly now: () => number;
  readonly version: string;
  readonly limits: Limits;
  readonly access: Access;
  readonly streams: EventStreams;
  readonly bodies: BodyBudget;
  /** The same for what anybody may send. */
  readonly strangersBodies: BodyBudget;
  /** Null: machines are lent to nobody. */
  readonly broker: Broker | null;
  readonly checks: Checks;
  readonly trends: Trends;
  readonly metrics: Metrics | null;
  /** Aborts when the server is about to stop: what waits is answered, and nothing new is taken. */
  readonly draining: AbortSignal;
}

/** Throws `unavailable` once the server is about to stop. */
export function refuseWhenDraining({ draining }: Pick<Web, "draining">): void {
  if (!draining.aborted) return;
  throw new MayflyError("unavailable", "this Mayfly is stopping", {
    hint: "Send it again once it has been started; what it had taken is safe.",
  });
}

/** A bound for everything that comes in or stays open. */
export interface Limits {
  readonly connectionsMax: number;
  /** For the request's head, and for a whole body that is held in memory. */
  readonly headersMs: number;
  readonly bodyMs: number;
  /** For a whole request, a tree's upload being the longest. */
  readonly requestMs: number;
  /** A connection that says and takes nothing for so long is closed. */
  readonly silenceMs: number;
  readonly jsonBytesMax: number;
  readonly eventBytesMax: number;
  readonly treeBytesMax: number;
  readonly treesAtOnce: number;
  /** All bodies held in memory together. */
  readonly heldBytesMax: number;
  /** Of those, bodies that anybody may send. */
  readonly strangersBytesMax: number;
  readonly streamsMax: number;
  /** How long requests under way may take to end once we close. */
  readonly closeMs: number;
}

export const defaultLimits: Limits = {
  connectionsMax: 1000,
  headersMs: 10_000,
  bodyMs: 15_000,
  requestMs: 15 * 60_000,
  silenceMs: 60_000,
  jsonBytesMax: 1_000_000,
  eventBytesMax: 5_000_000,
  treeBytesMax: 2_000_000_000,
  treesAtOnce: 4,
  heldBytesMax: 64_000_000,
  strangersBytesMax: 4_000_000,
  streamsMax: 200,
  closeMs: 5_000,
};

export type Env = { Bindings: HttpBindings };

export function facts(c: Context<Env>): RequestFacts {
  return {
    method: c.req.method,
    header: (name) => c.req.header(name),
    cookie: (name) => getCookie(c, name),
  };
}
