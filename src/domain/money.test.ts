import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MayflyError } from "./errors.ts";
import { cost, formatUsd, free, parsePrice } from "./money.ts";

test("a machine is billed in its provider's steps, and never for less than the least", () => {
  const ec2 = parsePrice(0.085, { minimumSeconds: 60 });
  assert.equal(ec2.microUsdPerHour, 85_000);
  assert.equal(cost(ec2, 0, 3_600_000), 85_000);
  assert.equal(cost(ec2, 0, 1), cost(ec2, 0, 60_000));
  assert.ok(cost(ec2, 0, 61_000) > cost(ec2, 0, 60_000));

  assert.equal(cost(parsePrice(1000), 5, 5), 0, "no least amount, no time, no cost");

  const hetzner = parsePrice(0.01, { quantumSeconds: 3600 });
  assert.equal(cost(hetzner, 0, 1), 10_000);
  assert.equal(cost(hetzner, 0, 3_600_001), 20_000);
});

test("one's own machine costs nothing, however long", () => {
  assert.equal(cost(free, 0, 1e12), 0);
});

const prices = fc
  .record({
    usd: fc.integer({ min: 0, max: 1000_000 }).map((milli) => milli / 1000),
    quantumSeconds: fc.integer({ min: 1, max: 7200 }),
    minimumSeconds: fc.integer({ min: 0, max: 7200 }),
  })
  .map(({ usd, ...billing }) => parsePrice(usd, billing));
const times = fc.integer({ min: 0, max: 1e9 });

test("cost is whole, never falls with time, and survives a clock that ran backwards", () => {
  fc.assert(
    fc.property(prices, times, times, times, (price, from, a, b) => {
      const [sooner, later] = [
        cost(price, from, from + Math.min(a, b)),
        cost(price, from, from + Math.max(a, b)),
      ];
      assert.ok(Number.isSafeInteger(sooner) && sooner >= 0);
      assert.ok(sooner <= later);
      assert.equal(cost(price, from + a, from), cost(price, from, from));
    }),
  );
});

test("a price from a configuration is whole micro-dollars", () => {
  assert.deepEqual(parsePrice(0.0725), {
    microUsdPerHour: 72_500,
    quantumSeconds: 1,
    minimumSeconds: 0,
  });
  assert.deepEqual(parsePrice(0), free);
});

test("an absurd price is refused with a hint", () => {
  for (const bad of [
    () => parsePrice(-1),
    () => parsePrice(NaN),
    () => parsePrice(Infinity),
    () => parsePrice(1001),
    () => parsePrice(1, { quantumSeconds: 0 }),
    () => parsePrice(1, { quantumSeconds: 0.5 }),
    () => parsePrice(1, { minimumSeconds: -1 }),
    () => parsePrice(1, { minimumSeconds: NaN }),
  ]) {
    assert.throws(bad, (error) => error instanceof MayflyError && error.hint !== undefined);
  }
});

test("money reads as people write it", () => {
  for (const [microUsd, text] of [
    [0, "$0"],
    [1, "<$0.0001"],
    [99, "<$0.0001"],
    [100, "$0.0001"],
    [12_345, "$0.0123"],
    [999_949, "$0.9999"],
    [999_950, "$1.00"],
    [12_345_678, "$12.35"],
    [1_234_500_000, "$1234.50"],
    [-12_345, "-$0.0123"],
  ] as const) {
    assert.equal(formatUsd(microUsd), text);
  }
});
