import { Counter, Gauge, type Registry } from "prom-client";
import type { Broker } from "../broker/broker.ts";

const microUsd = 1_000_000;

/** What the broker was asked, by outcome. */
export function brokerCounter(registry: Registry): Counter<"operation" | "status"> {
  return new Counter({
    name: "mayfly_broker_requests_total",
    help: "Requests to the broker in rr's wire format, by what they ask and the answer's status",
    labelNames: ["operation", "status"],
    registers: [registry],
  });
}

/** What is lent, and how the day's budget stands. Call it to read them. */
export function brokerGauges(registry: Registry): (broker: Broker) => Promise<void> {
  const gauge = (name: string, help: string): Gauge =>
    new Gauge({ name, help, registers: [registry] });
  const open = gauge("mayfly_broker_loans", "Machines lent by the broker now");
  const spent = gauge(
    "mayfly_broker_day_usd",
    "What was spent, or is kept for what is lent, since midnight UTC",
  );
  const budget = gauge("mayfly_broker_day_budget_usd", "What may be spent on a day");
  const alert = gauge(
    "mayfly_broker_budget_alert",
    "0: the budget is well, 1: 80 % are spent, 2: somebody was refused for it within the hour",
  );
  return async (broker) => {
    const stats = await broker.stats();
    open.set(stats.open);
    spent.set(stats.todayMicroUsd / microUsd);
    budget.set(stats.microUsdPerDay / microUsd);
    alert.set({ well: 0, low: 1, refusing: 2 }[stats.state]);
  };
}
