import { BoundedMap } from "../bounded-map.ts";
import type { ForgeLog } from "../context.ts";
import type { Client } from "./client.ts";
import { anything, deliveries, type Delivery } from "./shapes.ts";

export interface RedeliveryParts {
  readonly client: Client;
  readonly now: () => number;
  readonly log: ForgeLog;
}

const everyMs = 5 * 60_000;
/** What is younger may still be under way. */
const youngestMs = 60_000;
/** Polls have told of what is older, if it still matters; GitHub keeps deliveries for three days. */
const oldestMs = 3600_000;
const triesMax = 3;
const atOnceMax = 50;
const events = new Set(["workflow_job", "workflow_run"]);

/**
 * Has GitHub send again what did not arrive. GitHub itself never does; it keeps a list of an App's
 * deliveries, in which each attempt stands by itself under the event's `guid`.
 */
export class Redelivery {
  readonly #parts: RedeliveryParts;
  readonly #tries = new BoundedMap<string, number>(10_000);
  #roundAt: number;

  /** The first round is some minutes away: who only looks whether all is well changes nothing. */
  constructor(parts: RedeliveryParts) {
    this.#parts = parts;
    this.#roundAt = parts.now();
  }

  /** Every few minutes, once. A failure is told, never thrown: polls learn of the jobs as well. */
  async round(signal: AbortSignal): Promise<void> {
    const { client, now, log } = this.#parts;
    if (!client.isApp || now() - this.#roundAt < everyMs) return;
    this.#roundAt = now();
    try {
      const list = await client.ask(
        "GET /app/hook/deliveries",
        { per_page: 100 },
        { what: "listing webhooks that were sent", schema: deliveries, signal, asApp: true },
      );
      const failed = undelivered(list, now());
      for (const { id, guid } of failed.slice(0, atOnceMax)) {
        const tries = (this.#tries.get(guid) ?? 0) + 1;
        if (tries > triesMax) continue;
        this.#tries.set(guid, tries);
        await client.ask(
          "POST /app/hook/deliveries/{delivery_id}/attempts",
          { delivery_id: id },
          { what: "having a webhook sent again", schema: anything, signal, asApp: true },
        );
      }
      if (failed.length > 0) log.info({ count: failed.length }, "webhooks are sent again");
    } catch (error) {
      log.warn({ error: String(error) }, "webhooks that failed cannot be sent again");
    }
  }
}

/** The newest attempt of each event about jobs of which none succeeded. */
function undelivered(list: readonly Delivery[], now: number): Delivery[] {
  const arrived = new Set(list.filter(isOk).map(({ guid }) => guid));
  const newest = new Map<string, Delivery>();
  for (const delivery of list) {
    const ageMs = now - delivery.delivered_at;
    if (arrived.has(delivery.guid) || !events.has(delivery.event)) continue;
    if (ageMs < youngestMs || ageMs > oldestMs) continue;
    if (!newest.has(delivery.guid)) newest.set(delivery.guid, delivery);
  }
  return [...newest.values()];
}

function isOk(delivery: Delivery): boolean {
  return delivery.status_code >= 200 && delivery.status_code < 300;
}
