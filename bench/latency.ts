import { once } from "node:events";
import { signedEvents, startServer } from "./events.ts";
import { load } from "./load.ts";
import { quantile, type Bench, type Measure } from "./measure.ts";

const events = 1500;
const perSecond = 100;

/** From the event's last byte sent until its machine is asked for, over HTTP and a real disk. */
export const latency: Bench = {
  name: "latency",
  about: `${events} signed events at ${perSecond} a second, each durable before its answer`,
  run: async () => {
    const { port, server, stop } = await startServer("mayfly-server.ts", String(2 * events));
    try {
      await load(port, signedEvents(300, "warm"), { connections: 8, perSecond });
      await load(port, signedEvents(events, "event"), { connections: 8, perSecond });
      const answered = once(server, "message");
      server.send("report");
      const [samples] = (await answered) as [number[]];
      const timed = samples.slice(-events);
      const measure = (name: string, value: number, limit: number): Measure => ({
        name,
        value,
        unit: "ms",
        limit,
        limitName: "bound",
        sense: "at most",
        goal: 1,
      });
      return [
        measure("event received to machine asked for, p50", quantile(timed, 0.5), 3),
        measure("event received to machine asked for, p99", quantile(timed, 0.99), 20),
      ];
    } finally {
      await stop();
    }
  },
};
