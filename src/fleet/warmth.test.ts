import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { placed, samplePool, sampleSighting } from "../../test/samples.ts";
import { World, type WorldOptions } from "../../test/world.ts";
import { MayflyError } from "../domain/errors.ts";
import { labelClass } from "../domain/matching.ts";
import { findForecast, saveForecast } from "../store/arrivals.ts";
import { history } from "../store/facts.ts";
import { recordSightings } from "../store/jobs.ts";
import { listRunners } from "../store/questions.ts";

const minute = 60_000;
const hour = 60 * minute;
const labels = ["linux"];

const open: World[] = [];
async function world(options: WorldOptions): Promise<World> {
  const one = await World.open(options);
  open.push(one);
  return one;
}
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

/** Ten days of jobs long over: one every third hour, and five more a minute later. */
async function remember({ store, clock }: World): Promise<void> {
  const now = clock.now();
  const times: number[] = [];
  for (let at = now - 10 * 24 * hour; at < now - hour; at += 3 * hour) {
    times.push(at, ...Array.from({ length: 5 }, () => at + minute));
  }
  await store.write((tx) =>
    recordSightings(
      tx,
      times.map((queuedAt, index) =>
        placed(
          sampleSighting({
            externalId: `old-${index}`,
            labels,
            queuedAt,
            state: "ended",
            outcome: "success",
            endedAt: queuedAt + minute,
          }),
        ),
      ),
    ),
  );
}

function queue({ forge, clock }: World, id: string): void {
  forge.queue(id, labels, { queuedAt: clock.now() });
}

const learning = samplePool({ labels, learn: { unit: "hours", amount: 200 } });

test("a first job brings the machines of the jobs that follow it, and says why", async () => {
  const one = await world({ pools: [learning] });
  await remember(one);
  await one.clock.run(5 * minute);
  assert.equal(one.provider.alive().length, 0, "nothing is kept in a quiet hour");
  queue(one, "1");
  await one.clock.run(10_000);
  const runners = await listRunners(one.store.db);
  assert.equal(runners.length, 6);
  const claims = await Promise.all(
    runners.map(async ({ name }) => (await history(one.store.db, name))[0]?.reason ?? ""),
  );
  const learned = claims.filter((reason) => reason.startsWith("5 expected within 2 min ("));
  assert.equal(learned.length, 5, claims.join("\n"));
  assert.match(learned[0]!, /1 job in the last 5 min\), 0 ready/);

  // Nothing follows this time: they go once they were idle for as long as any other.
  await one.clock.run(10 * minute);
  assert.equal(one.provider.alive().length, 0);
});

interface Saved {
  ledger: { days: [number, number][] };
}

async function savedOf({ store }: World): Promise<Saved> {
  return JSON.parse((await findForecast(store.db, "small")) ?? "null") as Saved;
}

async function restart(one: World): Promise<void> {
  const stopping = one.fleet.stop();
  await one.clock.run(minute);
  await stopping;
  await one.startFleet();
}

test("what stood ready is paid for, kept over a restart, and at the end of the budget said", async () => {
  const one = await world({ pools: [learning] });
  await remember(one);
  await one.clock.run(3 * minute);
  queue(one, "1");
  await one.clock.run(10 * minute);
  const saved = await savedOf(one);
  const spent = saved.ledger.days.reduce((sum, [, amount]) => sum + amount, 0);
  // Five machines, idle or booting, for about a minute or two each.
  assert.ok(spent > 5 / 60 && spent < 25 / 60, `${spent} h`);

  // But for a second, the day's tenth of the budget is spent.
  saved.ledger.days[0]![1] = 20 - 1 / 3600;
  await one.store.write((tx) => saveForecast(tx, "small", JSON.stringify(saved)));
  await restart(one);
  const before = (await listRunners(one.store.db)).length;
  queue(one, "2");
  await one.clock.run(2 * minute);
  assert.equal((await listRunners(one.store.db)).length, before + 6);
  const said = (await history(one.store.db, "small")).map(({ reason }) => reason);
  const told = said.filter((reason) => reason.includes("forecast"));
  assert.equal(told.length, 1);
  assert.match(told[0]!, /^no machines are kept ready by the forecast: 20\.0 h are spent today/);
  queue(one, "3");
  await one.clock.run(2 * minute);
  assert.equal((await listRunners(one.store.db)).length, before + 7, "none beside the job's own");
});

test("a pool that does not learn leaves no trace of it", async () => {
  const one = await world({ pools: [samplePool({ labels })] });
  await remember(one);
  queue(one, "1");
  await one.clock.run(20 * minute);
  assert.equal((await listRunners(one.store.db)).length, 1);
  assert.equal(await findForecast(one.store.db, "small"), null);
});

test("a class of other labels is learned by itself", async () => {
  const one = await world({ pools: [{ ...learning, labels: ["linux", "fast"] }] });
  await remember(one);
  await one.clock.run(5 * minute);
  queue(one, "1");
  await one.clock.run(10_000);
  const classes = (await listRunners(one.store.db)).map((runner) => runner.labelClass);
  assert.deepEqual(new Set(classes), new Set([labelClass(labels)]));
  assert.equal(classes.length, 6);
});

test("dollars limit nothing where machines cost nothing", async () => {
  const learn = { unit: "usd", amount: 5 } as const;
  await assert.rejects(
    world({
      pools: [{ ...learning, learn }],
      provider: { price: { microUsdPerHour: 0, quantumSeconds: 1, minimumSeconds: 0 } },
    }),
    (error) => error instanceof MayflyError && error.where === "pools.small.learn",
  );
});
