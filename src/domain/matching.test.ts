import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { MayflyError } from "./errors.ts";
import {
  labelClass,
  parseLabelClass,
  place,
  stealWarning,
  subset,
  subsetIgnoringCase,
  subsetNonEmpty,
} from "./matching.ts";
import type { Demand, LabelRule, Placement } from "./matching.ts";
import type { Pool } from "./pool.ts";
import { samplePool, sampleSize } from "./samples.ts";

describe("label classes", () => {
  const labels = fc.array(fc.oneof(fc.string(), fc.constantFrom("a", "A", '"', ",", "[", "")));

  test("are the labels as a set", () => {
    fc.assert(
      fc.property(labels, labels, (a, b) => {
        const same = a.every((label) => b.includes(label)) && b.every((label) => a.includes(label));
        assert.equal(labelClass(a) === labelClass(b), same);
        assert.equal(labelClass(a), labelClass([...a, ...a].reverse()));
      }),
    );
  });

  test("read back sorted, each label once", () => {
    fc.assert(
      fc.property(labels, (some) => {
        const read = parseLabelClass(labelClass(some));
        assert.deepEqual(read, [...new Set(some)].sort());
        assert.equal(labelClass(read), labelClass(some));
      }),
    );
    assert.deepEqual(parseLabelClass(labelClass(["x64", "Linux", "linux"])), [
      "Linux",
      "linux",
      "x64",
    ]);
  });

  test("what is no key is an error", () => {
    for (const bad of ["", "linux", "{}", "[1]", "null", '["a"']) {
      assert.throws(
        () => parseLabelClass(bad),
        (error) => error instanceof MayflyError && error.code === "invalid",
      );
    }
  });
});

function demand(labels: string[], changes: Partial<Demand> = {}): Demand {
  return { forge: "acme", trust: "trusted", labels, ...changes };
}

function placed(labels: string[], pools: Pool[], match: LabelRule = subsetIgnoringCase): Placement {
  return place(demand(labels), pools, match);
}

function poolOf(placement: Placement): string | null {
  return placement.pool?.name ?? null;
}

describe("place", () => {
  test("gives the job its size and keeps its labels to the letter", () => {
    const job = demand(["X64", "linux", "4cpu-8gb", "linux"]);
    const placement = place(job, [samplePool()], subsetIgnoringCase);
    assert.deepEqual(placement, {
      pool: samplePool(),
      size: { ...sampleSize, cpu: 4, memoryMb: 8192 },
      labels: ["X64", "linux", "4cpu-8gb", "linux"],
      reason: "pool small: 4 cpu, 8 GB, 20 GB disk, x64",
    });
  });

  test("takes the first pool that fits, of the job's own forge", () => {
    const pools = [
      samplePool({ name: "theirs", forge: "other" }),
      samplePool({ name: "mac", labels: ["macos"] }),
      samplePool({ name: "first" }),
      samplePool({ name: "second" }),
    ];
    assert.equal(poolOf(placed(["linux"], pools)), "first");
    assert.equal(poolOf(placed(["second", "linux"], pools)), "second");
    assert.equal(poolOf(placed(["linux", "macos"], pools)), null);
  });

  test("a label that a pool offers or is called by is no size", () => {
    const pools = [
      samplePool({ name: "any" }),
      samplePool({ name: "large", labels: ["4cpu-fast"] }),
    ];
    for (const label of ["large", "LARGE", "4cpu-fast"]) {
      const placement = placed([label], pools);
      assert.equal(poolOf(placement), "large");
      assert.deepEqual(placement.pool && placement.size, sampleSize);
    }
    const onlyAny = placed(["large"], pools.slice(0, 1));
    assert.equal(onlyAny.pool && onlyAny.size.cpu, 8);
  });

  test("a name that is offered stays closed to those the pool does not accept", () => {
    const pools = [samplePool({ name: "any" }), samplePool({ name: "large", accept: ["trusted"] })];
    const placement = place(demand(["large"], { trust: "fork" }), pools, subsetIgnoringCase);
    assert.equal(placement.pool, null);
    assert.equal(
      placement.reason,
      'pool any: does not offer "large"; ' +
        "pool large: takes only jobs that are trusted, this one is from a fork",
    );
  });

  test("says of every pool why not", () => {
    const pools = [
      samplePool({ name: "own", accept: ["trusted"] }),
      samplePool({ name: "shut", accept: [] }),
      samplePool({ name: "picky", deny: ["mayfly=*"] }),
      samplePool({ name: "strict", allow: ["linux", "x*"] }),
      samplePool({ name: "stricter", allow: ["linux"] }),
      samplePool({ name: "arm", size: { ...sampleSize, architecture: "arm64" } }),
      samplePool({ name: "old", image: "debian-12" }),
      samplePool({ name: "tiny", image: "debian-13", maximum: sampleSize }),
      samplePool({ name: "mac", image: "debian-13", labels: ["macos"] }),
    ];
    const label = "mayfly=1/cpu=4/arch=x64/image=debian-13";
    const job = demand(["linux", label], { trust: "fork" });
    const placement = place(job, pools, subsetIgnoringCase);
    assert.equal(placement.pool, null);
    assert.deepEqual(placement.reason.split("; "), [
      "pool own: takes only jobs that are trusted, this one is from a fork",
      "pool shut: takes no jobs at all, its list of accepted trust is empty",
      `pool picky: denies label "${label}" by "mayfly=*"`,
      `pool strict: does not allow label "${label}", only "linux" and "x*"`,
      `pool stricter: does not allow label "${label}", only "linux"`,
      "pool arm: has arm64 machines, x64 asked",
      'pool old: has image "debian-12", "debian-13" asked',
      "pool tiny: 4 cpu asked, 2 at most",
      'pool mac: does not offer "linux"',
    ]);
    assert.equal(!placement.pool && placement.final, false);
  });

  test("spot is refused where there is none, and not asking for it is always fine", () => {
    assert.match(placed(["mayfly/spot=true"], [samplePool()]).reason, /has no spot machines/);
    assert.equal(poolOf(placed(["mayfly/spot=false"], [samplePool()])), "small");
  });

  test("labels that are wrong in themselves are final", () => {
    for (const labels of [["4cpu", "8cpu"], ["4cpu-8gb-50gb"], ["lin\nux"]]) {
      const placement = placed(labels, [samplePool()]);
      assert.equal(!placement.pool && placement.final, true);
    }
  });

  test("each forge's rule decides on the plain labels", () => {
    const pools = [samplePool()];
    assert.equal(poolOf(placed(["Linux"], pools, subset)), null);
    assert.equal(poolOf(placed(["Linux"], pools, subsetIgnoringCase)), "small");
    assert.equal(poolOf(placed([], pools, subset)), "small");
    assert.equal(
      placed([], pools, subsetNonEmpty).reason,
      "pool small: takes no job without labels",
    );
  });

  test("to Forgejo, a job that asks only for a size does ask for something", () => {
    assert.equal(poolOf(placed(["4cpu"], [samplePool()], subsetNonEmpty)), "small");
  });

  test("a forge without pools says so", () => {
    assert.equal(placed(["linux"], []).reason, 'no pool takes jobs from forge "acme"');
  });

  test("a thousand pools do not make an endless reason", () => {
    const pools = Array.from({ length: 1000 }, (_, index) => samplePool({ name: `p${index}` }));
    const { reason } = placed(["x".repeat(256)], pools);
    assert.ok(reason.length <= 1000 && reason.endsWith("…"));
  });

  test("whatever the labels, a job lands only where trust, patterns and maximum allow", () => {
    const maximum = { ...sampleSize, cpu: 8, memoryMb: 16 * 1024, diskGb: 100 };
    const pools = fc.array(
      fc
        .record({
          name: fc.constantFrom("a", "b", "large"),
          labels: fc.subarray(["linux", "x64", "4cpu"]),
          accept: fc.subarray(["trusted" as const, "fork" as const]),
          allow: fc.subarray(["*", "linux", "*cpu*"]),
          deny: fc.subarray(["x*", "*8cpu*"]),
        })
        .map((changes) => samplePool({ ...changes, maximum })),
      { maxLength: 4 },
    );
    const labels = fc.array(
      fc.constantFrom("linux", "x64", "4cpu", "8cpu", "large", "xlarge", "mayfly/arch=arm64", "a"),
      { maxLength: 3 },
    );
    const trust = fc.constantFrom("trusted" as const, "fork" as const);
    fc.assert(
      fc.property(pools, labels, trust, (some, asked, from) => {
        const placement = place(demand(asked, { trust: from }), some, subsetIgnoringCase);
        if (placement.pool === null) {
          assert.ok(placement.reason.length > 0);
          return;
        }
        const { pool, size } = placement;
        assert.ok(pool.accept.includes(from));
        assert.equal(size.architecture, pool.size.architecture);
        assert.ok(size.cpu <= 8 && size.memoryMb <= 16 * 1024 && size.diskGb <= 100);
        assert.ok(!asked.includes("xlarge"));
        assert.ok(!(pool.deny.includes("x*") && asked.includes("x64")));
        assert.ok(!(pool.deny.includes("*8cpu*") && asked.includes("8cpu")));
        assert.ok(pool.labels.includes("x64") || !asked.includes("x64"));
        assert.ok(pool.name === "a" || !asked.includes("a"));
        assert.deepEqual(placement.labels, asked);
      }),
      { numRuns: 2000 },
    );
  });
});

test("a set of labels within another may steal its machines", () => {
  const plain = labelClass(["linux"]);
  const big = labelClass(["linux", "16cpu"]);
  assert.match(
    stealWarning(plain, big, subsetIgnoringCase) ?? "",
    /labels \["linux"\] may take machines made for \["16cpu" and "linux"\]/,
  );
  assert.equal(stealWarning(big, plain, subsetIgnoringCase), null);
  assert.equal(stealWarning(plain, plain, subsetIgnoringCase), null);
  assert.equal(stealWarning(plain, labelClass(["Linux"]), subsetIgnoringCase), null);
  assert.equal(stealWarning(plain, labelClass(["Linux", "x"]), subset), null);
  assert.match(stealWarning(labelClass([]), plain, subset) ?? "", /labels \[\] may take/);
  assert.equal(stealWarning(labelClass([]), plain, subsetNonEmpty), null);

  const own = (run: number) => labelClass(["linux", `mayfly=${run}`]);
  assert.equal(stealWarning(own(1), own(2), subsetIgnoringCase), null);
});
