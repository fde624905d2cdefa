import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Chance } from "./chance.ts";
import { SimClock } from "./clock.ts";
import { allFaults, faultPairs } from "./faults.ts";
import { run } from "./run.ts";
import { scenarioOf, type Scenario } from "./scenario.ts";
import { storyOf } from "./story.ts";

/** A few of each kind of company; `npm run soak` runs thousands. */
const seeds = 60;
/** For a host that is busy with other tests. */
const patienceMs = 500_000;

describe("the whole manager in a simulated world", () => {
  it("holds what it promises, whatever goes wrong", { timeout: patienceMs }, async () => {
    const broken: string[] = [];
    const happened = new Set<string>();
    let jobs = 0;
    for (let seed = 0; seed < seeds; seed++) {
      const scenario = scenarioOf(seed);
      const outcome = await run(scenario);
      for (const fault of outcome.happened.keys()) happened.add(fault);
      jobs += outcome.jobs;
      if (outcome.violation !== null) broken.push(`seed ${seed}\n${storyOf(scenario, outcome)}`);
    }
    assert.deepEqual(broken, []);
    assert.ok(jobs > seeds, "jobs were run");
    assert.ok(happened.size > allFaults.length / 2, "much went wrong");
  });

  it("is the same again under the same seed", async () => {
    for (const seed of [2, 5, 8]) {
      const [one, other] = [await run(scenarioOf(seed)), await run(scenarioOf(seed))];
      assert.deepEqual(one.story, other.story);
      assert.equal(one.steps, other.steps);
      assert.deepEqual(one.places, other.places);
    }
  });

  it("is another under another seed", async () => {
    const [one, other] = [await run(scenarioOf(2)), await run(scenarioOf(5))];
    assert.notDeepEqual(one.story, other.story);
  });

  it("keeps everything else as it was when a fault is left out", async () => {
    const whole = scenarioOf(5, ["event-lost", "forge-slow", "crash"]);
    const { places } = await run(whole);
    const [left] = places;
    assert.ok(left !== undefined);
    const without: Scenario = { ...whole, without: new Set([left]) };
    const again = await run(without);
    assert.ok(!again.places.has(left));
    assert.equal(again.jobs > 0, true);
  });

  it("tries each fault alone and each pair of them", () => {
    const companies = new Set<string>();
    for (let seed = 0; seed < 3 * faultPairs.length; seed++) {
      companies.add([...scenarioOf(seed).faults].join(","));
    }
    assert.deepEqual(
      [...allFaults.map((fault) => [fault]), ...faultPairs].filter(
        (company) => !companies.has(company.join(",")),
      ),
      [],
    );
  });
});

describe("chance from one seed", () => {
  it("answers the same place alike, and covers its range", () => {
    const [one, other] = [new Chance(7), new Chance(7)];
    const drawn = Array.from({ length: 2000 }, (_, index) => one.between(`x/${index}`, 1, 4));
    assert.deepEqual(
      drawn,
      Array.from({ length: 2000 }, (_, index) => other.between(`x/${index}`, 1, 4)),
    );
    for (const value of [1, 2, 3, 4]) {
      const share = drawn.filter((it) => it === value).length / drawn.length;
      assert.ok(share > 0.2 && share < 0.3, `${value} comes up ${share}`);
    }
    assert.notEqual(new Chance(8).at("x"), one.at("x"));
  });
});

describe("the simulated clock", () => {
  it("fires timers by their time, those of one moment in the order they were set", () => {
    const clock = new SimClock(0);
    const fired: string[] = [];
    const chance = new Chance(1);
    const timers = Array.from({ length: 300 }, (_, index) => ({
      index,
      at: chance.between(`${index}`, 0, 40),
    }));
    for (const { index, at } of timers) clock.after(at, () => fired.push(`${at}/${index}`));
    const cancelled = clock.after(5, () => fired.push("never"));
    cancelled();
    while (clock.next());
    const expected = timers.toSorted((a, b) => a.at - b.at || a.index - b.index);
    assert.deepEqual(
      fired,
      expected.map(({ at, index }) => `${at}/${index}`),
    );
    assert.equal(clock.now(), 40);
  });
});
