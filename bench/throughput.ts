import { signedEvents, startServer } from "./events.ts";
import { load } from "./load.ts";
import { median, type Bench } from "./measure.ts";

const events = 20_000;
const connections = 64;
const rounds = 3;

/** Events a second with a burst that does not end, each durable before its answer. */
export const throughput: Bench = {
  name: "throughput",
  about: `${events} signed events over ${connections} connections, ${rounds} times each in turn`,
  run: async () => {
    const bare: number[] = [];
    const own: number[] = [];
    for (let round = 0; round < rounds; round++) {
      bare.push(await perSecond("bare-server.ts", `bare-${round}`));
      own.push(await perSecond("mayfly-server.ts", `own-${round}`));
    }
    return [
      {
        name: "events a second",
        value: median(own),
        unit: "/s",
        limit: median(bare),
        limitName: "a server that only checks the signature and commits rows in groups",
        sense: "at least",
        goal: 0.5,
      },
    ];
  },
};

async function perSecond(script: string, prefix: string): Promise<number> {
  const { port, stop } = await startServer(script);
  try {
    await load(port, signedEvents(2000, `${prefix}-warm`), { connections });
    const { seconds, statuses } = await load(port, signedEvents(events, prefix), { connections });
    const accepted = [...statuses].filter(([status]) => status < 300);
    const taken = accepted.reduce((sum, [, count]) => sum + count, 0);
    if (taken !== events) throw new Error(`${script} took ${taken} of ${events} events`);
    return events / seconds;
  } finally {
    await stop();
  }
}
