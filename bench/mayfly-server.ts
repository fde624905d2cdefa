import { NativeForge } from "../src/forges/native/native.ts";
import { Store } from "../src/store/store.ts";
import { systemClock } from "../src/fleet/clock.ts";
import { silentLog } from "../src/fleet/log.ts";
import { serve } from "../src/web/server.ts";
import { samplePool } from "../test/samples.ts";
import { benchFleet, boxProvider } from "./fleet.ts";

/*
 * The real server, intake, store and planner on a scratch folder; only the machines are kept in
 * mind. Sent `report`, it answers how long each event took from its arrival until its machine was
 * asked for, in order.
 */
const [folder = ".", secret = "", machinesMax = "10"] = process.argv.slice(2);
const store = await Store.open({ engine: "sqlite", folder }, systemClock.now);
const provider = boxProvider();
const asked: number[] = [];
const create = provider.create.bind(provider);
provider.create = (spec, program, signal) => {
  asked.push(performance.now());
  return create(spec, program, signal);
};
const forge = new NativeForge({
  name: "native",
  secret,
  ledger: { guests: async () => [], remove: async () => "gone" },
  guestProgram: () => ({ files: [], command: ["true"], environment: {}, deadlineSeconds: 7200 }),
  now: systemClock.now,
});
const received: number[] = [];
const verify = forge.verify.bind(forge);
forge.verify = (request) => {
  received.push(performance.now());
  return verify(request);
};
const pool = samplePool({ forge: "native", max: Number(machinesMax) });
const fleet = benchFleet(store, [pool], { sweepMs: 1e9 }, { forge, provider });
await fleet.start();
const { url, close } = await serve({
  fleet,
  listen: "127.0.0.1:0",
  token: null,
  guestSocket: null,
  log: silentLog,
  now: systemClock.now,
  version: "bench",
});
process.stdout.write(`${new URL(url).port}\n`);

process.on("message", () => {
  process.send?.(asked.map((at, index) => at - (received[index] ?? NaN)));
});
process.once("SIGTERM", () => {
  void (async () => {
    await close();
    await fleet.stop();
    await store.close();
    process.exit(0);
  })();
});
