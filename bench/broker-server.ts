import { openBroker } from "../src/broker/open.ts";
import { brokerForge } from "../src/domain/broker.ts";
import { free } from "../src/domain/money.ts";
import { Secret } from "../src/domain/secret.ts";
import type { Fleet } from "../src/fleet/api.ts";
import { systemClock } from "../src/fleet/clock.ts";
import { FleetIntake } from "../src/fleet/intake.ts";
import { silentLog } from "../src/fleet/log.ts";
import type { Forge } from "../src/forges/forge.ts";
import { openGithub } from "../src/forges/github/github.ts";
import { githubOptions } from "../src/forges/github/options.ts";
import { settingOnce } from "../src/store/settings.ts";
import { Store } from "../src/store/store.ts";
import { serve } from "../src/web/server.ts";
import { samplePool } from "../test/samples.ts";

/*
 * The real server and broker on a scratch folder, at a GitHub that is played elsewhere. Sent `cpu`,
 * it answers what it has used so far, ms; sent a run's number, how long the forge's check of it took
 * together with one row made durable, which is the least that an order is.
 */
const [folder = ".", , url = "", token = ""] = process.argv.slice(2);
const store = await Store.open({ engine: "sqlite", folder }, systemClock.now);
const context = { name: "acme", installation: "m1", now: systemClock.now, log: silentLog };
const github = openGithub(
  {
    ...githubOptions.parse({ url, token: "env:TOKEN" }),
    token: new Secret({ kind: "env", name: "TOKEN" }, token),
  },
  {
    ...context,
    guestProgram: () => ({ files: [], command: ["true"], environment: {}, deadlineSeconds: 7200 }),
  },
);
const forges = new Map<string, Forge>([["acme", github]]);
const settings = {
  ...{ forge: "acme", repositories: ["acme/widget"], label: "mayfly_{run}_{id}" },
  ...{ workflows: [], pools: { x86_64: "small" }, perRun: 10_000, perRepository: 10_000 },
  ...{ perAddress: 10_000, perHour: 10_000, microUsdPerDay: 1_000_000 },
  ...{ answerSeconds: 600, waitSeconds: 900 },
};
const brokerOf = openBroker({ settings, store, clock: systemClock, log: silentLog, forges });
const pools = [samplePool({ forge: brokerForge, labels: ["arch_x86_64"], max: 1 })];
const intake = new FleetIntake(store, forges, pools);
const broker = brokerOf({ intake, pools, price: () => free });
const { url: own, close } = await serve({
  // Nothing else of it is asked for here.
  fleet: { store, intake, pools } as unknown as Fleet,
  broker,
  listen: "127.0.0.1:0",
  token: null,
  guestSocket: null,
  log: silentLog,
  now: systemClock.now,
  version: "bench",
});
process.stdout.write(`${new URL(own).port}\n`);

process.on("message", (asked: string) => {
  if (asked === "cpu") {
    const { user, system } = process.cpuUsage();
    process.send?.((user + system) / 1000);
    return;
  }
  const startedAt = performance.now();
  void (async () => {
    await github.runs?.find("acme/widget", asked, AbortSignal.timeout(60_000));
    await store.write((tx) => settingOnce(tx, `bench-${asked}`, () => "durable"));
    process.send?.(performance.now() - startedAt);
  })();
});
process.once("SIGTERM", () => {
  void (async () => {
    await close();
    await store.close();
    process.exit(0);
  })();
});
